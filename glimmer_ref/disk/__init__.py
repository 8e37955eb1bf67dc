"""Files on disk: read within limits, written completely or not at all, and folders that one process holds at a time."""

"""Files on disk: read within bounds, written whole or not at all, folders that one process at a time has."""

"""The stored memory: MemEnc of every passage, built once by one or many processes, kept in shards."""

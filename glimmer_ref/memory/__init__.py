"""The stored memory: MemEnc of every passage, computed once by one or many processes and kept in shards."""

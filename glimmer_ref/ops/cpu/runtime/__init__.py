"""The runtime of the kernels: the cache of compiled code, threads, memory."""

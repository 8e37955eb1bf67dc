"""What runs the kernels: kept machine code, threads, buffers."""

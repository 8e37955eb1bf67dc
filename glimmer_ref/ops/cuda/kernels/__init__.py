"""CUDA kernels, which numba-cuda compiles."""

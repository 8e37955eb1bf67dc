"""Kernels that numba-cuda compiles."""

"""Loops that numba compiles, and the vector instructions that they use."""

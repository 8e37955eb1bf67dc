"""Loops that numba compiles, and the instructions they are made of."""

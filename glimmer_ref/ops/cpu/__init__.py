"""The CPU backend: compiled kernels, and the operations that call them."""

"""The CPU backend: compiled kernels, and the operations made of them."""

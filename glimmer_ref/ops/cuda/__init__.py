"""The CUDA backend: kernels for an NVIDIA GPU, and the operations that launch them."""

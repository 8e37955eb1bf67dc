"""The CUDA backend: kernels for an NVIDIA GPU, and the operations made of them."""

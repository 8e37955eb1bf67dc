"""The runtime of the kernels: the device and its memory."""

"""What runs the kernels: the device and its memory."""

"""Benchmarks: the speed of this package on this machine, beside the peaks of the hardware."""

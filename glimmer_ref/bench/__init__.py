"""Benchmarks: how fast this package is on this machine, beside what the machine could do at most."""

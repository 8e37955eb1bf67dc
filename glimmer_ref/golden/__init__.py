"""Golden cases: tensors that any implementation of GLIMMER must compute, and the check of its outputs."""

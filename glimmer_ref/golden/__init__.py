"""Golden cases: tensors that any implementation of GLIMMER must arrive at, and the check that holds it to them."""

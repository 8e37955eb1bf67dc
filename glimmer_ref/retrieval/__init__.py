"""Finding passages, and keeping what the memory encoder made of them."""

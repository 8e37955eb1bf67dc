"""The tree of weights, its files, and the names that others gave them."""

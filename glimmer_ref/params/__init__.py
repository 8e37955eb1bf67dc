"""The tree of weights, its files, and the names in published checkpoints."""

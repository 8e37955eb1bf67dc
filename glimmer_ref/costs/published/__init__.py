"""The costs that the paper printed, beside those of the calculator."""

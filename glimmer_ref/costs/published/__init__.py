"""What the paper printed of costs, beside what the calculator gives."""

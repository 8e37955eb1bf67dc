"""Learning: worlds to learn from, and how."""

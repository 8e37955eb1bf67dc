"""A second implementation, in JavaScript without dependencies, which the golden cases check."""

"""Generation of the golden cases, for the maintainers of this project only."""

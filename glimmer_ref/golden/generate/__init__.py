"""How the golden cases are made: for this project's maintainers only."""

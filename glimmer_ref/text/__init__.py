"""Conversion of strings to token ids and back, and the words that rankings compare."""

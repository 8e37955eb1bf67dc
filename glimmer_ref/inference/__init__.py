"""Strings in, answers out: the reader, what an answer says of itself, its trace and its pictures."""

"""Strings: to token ids and back, how questions and passages are written, and how answers are judged."""

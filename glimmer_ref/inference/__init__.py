"""From strings to answers: the reader, the answer with its scores and costs, traces and pictures."""

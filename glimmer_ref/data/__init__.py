"""Files of passages and questions: read line by line, KILT's own, chunks, which passage is relevant."""

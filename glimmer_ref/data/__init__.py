"""Files of passages and questions: JSON lines, KILT's files, chunks of pages, the relevance filter."""

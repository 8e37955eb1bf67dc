"""Finds passages for questions: BM25 by words, GTR by embeddings, and their indexes on disk."""

"""Cost questions: what k, m, alpha, beta, lengths and sizes cost in multiply-adds, bytes, seconds and money."""

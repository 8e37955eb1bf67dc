"""Costs in multiply-adds, bytes, seconds and money, depending on k, m, alpha, beta, lengths and sizes."""

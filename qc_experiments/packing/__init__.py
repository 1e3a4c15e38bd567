"""Rows that share tokens, computed once: prefix trees, their attention and loss."""

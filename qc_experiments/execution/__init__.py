"""Run SQL on real databases, reading only, and compare results."""

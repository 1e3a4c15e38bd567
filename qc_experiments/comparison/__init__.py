"""Compare the runs of a sweep: what may be ranked together, and what a test says of it."""

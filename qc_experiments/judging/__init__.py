"""Whether a query returns the right rows."""

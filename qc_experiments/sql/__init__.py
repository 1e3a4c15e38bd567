"""SQL as text: tokens, structure, names; knows no database."""

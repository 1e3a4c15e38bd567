"""SQL as text: tokens, structure, names; knows no database."""

import logging

# What sqlglot cannot parse is said by our own means.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

"""A trained model taken along: merged, as GGUF or as an adapter, with its card, and judged again."""

"""How rows become batches."""

"""What a comparison is shown as: a table, a page, a W&B workspace."""

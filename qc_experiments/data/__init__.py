"""From a CSV and a template to rows in tokens."""

"""The demo data: questions about three small databases, made by tools/demo_data."""

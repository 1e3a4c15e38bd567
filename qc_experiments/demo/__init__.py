"""The demo data: questions about three small databases, made by scripts/make_demo_data.py."""

"""Engines, and running SQL that nobody trusts on databases that stay as they were."""

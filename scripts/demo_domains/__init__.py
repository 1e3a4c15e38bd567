"""The three little worlds of the demo data and the grammar that turns them into questions."""

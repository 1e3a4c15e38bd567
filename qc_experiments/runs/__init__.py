"""One run from config to result: the story, its identity, where it came from, its summary."""

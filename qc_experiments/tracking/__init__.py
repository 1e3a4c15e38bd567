"""Where a run's figures go while it is under way."""

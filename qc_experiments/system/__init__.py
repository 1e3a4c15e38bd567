"""Files, paths, locks, processes, signals, memory, the terminal; knows nothing of models or SQL."""

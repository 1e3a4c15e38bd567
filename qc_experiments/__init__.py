"""Fine-tune language models to turn questions into SQL, and prove which settings work best."""

__version__ = "0.1.0"

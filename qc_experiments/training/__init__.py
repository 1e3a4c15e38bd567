"""Hugging Face's Trainer with our loss, its arguments, callbacks and checkpoints."""

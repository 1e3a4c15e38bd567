"""Base models, their quantization, and LoRA adapters."""

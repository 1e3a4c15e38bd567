"""Fine-tune a model on text-to-SQL: `python train.py lora=r16 quant=4bit` (see README.md)."""

from qc_experiments.cli.train import main

if __name__ == "__main__":
    main(program="train.py")

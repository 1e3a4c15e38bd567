"""The commands: one module each, which reads what was typed and hands it on."""

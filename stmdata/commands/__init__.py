"""The offline commands: options and wiring only."""

"""The training-side commands: options and wiring only."""

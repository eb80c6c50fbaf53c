"""Checkpoints and weight files: read, check, convert and write them."""

"""What objects in clips do: how large they are, how they move, leave and return. Torch-free."""

"""Toy data drawn by the program itself, and the demo that uses it."""

"""Recipes, losses, the optimiser step, the run folder and several processes."""

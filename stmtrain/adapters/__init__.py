"""Shard sets as the input of other pipelines."""

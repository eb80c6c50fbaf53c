"""Samples become shards: what a set is made of, and how it is written and resumed."""

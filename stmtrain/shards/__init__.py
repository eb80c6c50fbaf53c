"""The shard contract, and reading shard sets from folders and URLs; free of torch."""

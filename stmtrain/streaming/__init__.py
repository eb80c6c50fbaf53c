"""From shards to batches: the training order, clips, warps and the loader."""

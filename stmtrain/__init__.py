"""The lean side: shards, streaming, the STM model, training and evaluation."""

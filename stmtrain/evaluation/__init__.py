"""From a checkpoint and videos to masks and numbers: data sets, inference, scores, submissions."""

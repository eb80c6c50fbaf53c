"""Verify, index and repair shard sets; runs without OpenCV and imgaug."""

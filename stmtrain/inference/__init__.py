"""Segmentation of complete videos: memory, evaluation on data sets, the user's own videos."""

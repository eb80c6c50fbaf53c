"""Segment whole videos: memory, evaluation on data sets, one's own videos."""

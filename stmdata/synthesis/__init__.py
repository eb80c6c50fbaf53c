"""One still image and its masks become a pseudo-video clip."""

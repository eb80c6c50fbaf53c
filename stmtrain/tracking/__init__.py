"""Objects followed through a user's own frames or video file."""

"""Results compared: where they fail, in the terminal and as one HTML page. No torch."""

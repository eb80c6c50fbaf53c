"""J and F, scores of results, and submissions; free of torch."""

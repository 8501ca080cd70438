"""Training a network without labels, from images alone."""

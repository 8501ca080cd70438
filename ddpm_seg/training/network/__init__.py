"""Training of networks without labels, from images only."""

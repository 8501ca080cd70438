"""Turns the network's probabilities into a mask of the image's own size."""

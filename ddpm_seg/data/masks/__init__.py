"""From the network's probabilities to a mask of the image's own size."""

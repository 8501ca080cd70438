"""Drawing images with a network."""

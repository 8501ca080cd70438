"""StyleGANs, and the encoders that invert them."""

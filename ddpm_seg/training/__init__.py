"""Training of the DDPM and of the ensemble."""

"""Label image datasets with diffusion models."""

"""Training: diffusion models and other backbones, ensembles, students, and what they are compared with."""

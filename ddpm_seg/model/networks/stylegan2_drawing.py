"""How a StyleGAN2 draws: latents in, pictures and their maps out."""

# Shapes: N samples of S x S pixels, Z latent width.

from __future__ import annotations

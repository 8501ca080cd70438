"""Diffusion models: guided-diffusion's UNet and that of diffusers."""

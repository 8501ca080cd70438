"""Networks, diffusion and segmentation. No file is read or written here except bundles and published checkpoints."""

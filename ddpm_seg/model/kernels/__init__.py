"""Fast paths for NVIDIA GPUs, written in Triton; each is compared with PyTorch on the GPU before use."""

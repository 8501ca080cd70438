"""Fast paths: Triton kernels for NVIDIA GPUs, and Winograd's convolution for CPUs. Each is compared with PyTorch's own
operations before use."""

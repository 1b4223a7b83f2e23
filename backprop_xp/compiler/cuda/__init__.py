"""Programs on an NVIDIA GPU: operations fused into kernels, kernels captured in CUDA graphs."""

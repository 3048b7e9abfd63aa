"""The attention backend for NVIDIA GPUs. Only `backend` imports vLLM, and only `triton_kernels` Triton."""

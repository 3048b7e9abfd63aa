"""The emulated CUDA backend over flash attention 2, as GPUs before Hopper have it."""

import emulated_cuda

emulated_cuda.VERSION = 2

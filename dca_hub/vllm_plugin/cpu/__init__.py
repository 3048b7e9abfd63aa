"""The attention backend for CPUs. Only `backend` imports vLLM."""

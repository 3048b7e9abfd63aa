"""The attention backend for CPUs. Only `backend` and `first_chunk` import vLLM."""

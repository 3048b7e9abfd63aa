"""Dual Chunk Attention in vLLM, as a plug-in, and what serves a model to others."""

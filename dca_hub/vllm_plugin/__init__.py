"""What vLLM loads: its processes import this package, `dca_hub.modeling`, families and errors, and nothing else of
ours.

`plugin` is the entry point, `hooks` the two places where it enters vLLM. `cpu` and `cuda` are the attention backends.
"""

VLLM_VERSIONS = ("0.32", "0.33")

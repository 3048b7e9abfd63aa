"""What vLLM's processes load: this package and `dca_hub.modeling`, and with them what `dca_hub/__init__.py` imports
itself (`errors`, `version`, `configs`); nothing else of ours.

`plugin` is the entry point, `hooks` the two places where it enters vLLM. `cpu` and `cuda` are the attention backends.
"""

VLLM_VERSIONS = ("0.32", "0.33")

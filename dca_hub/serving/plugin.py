"""The entry point of earlier installations, whose metadata names this module: without it vLLM would lose DCA
silently."""

from dca_hub.vllm_plugin.plugin import register as register

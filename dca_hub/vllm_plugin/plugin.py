"""The entry point that vLLM calls in each of its processes (`vllm.general_plugins`).

An exception here would stop vLLM for every model, so nothing is imported at the top and nothing is raised: where the
plug-in cannot be put in place, models without Dual Chunk Attention run on and a DCA model is refused with the reason.
"""

import logging


def register() -> None:
    """Puts the plug-in in place; a second call changes nothing. Never raises."""
    try:
        from dca_hub.vllm_plugin.hooks import install

        install()
    except Exception as error:
        logging.getLogger("vllm.dca_hub").exception("The Dual Chunk Attention plug-in could not be installed.")
        _refuse_dca_models(f"{type(error).__name__}: {error}")


def _refuse_dca_models(reason: str) -> None:
    """Without the plug-in vLLM would run a DCA model's plain attention without a word."""
    try:
        from vllm.config import ModelConfig

        from dca_hub.vllm_plugin.architectures import register_architectures

        register_architectures()  # else vLLM would say that it has no such model, and not why
        verify = ModelConfig.verify_dual_chunk_attention_config

        def refuse(self, load_config):
            if getattr(self.hf_config, "dual_chunk_attention_config", None):
                raise ValueError(
                    "this model asks for Dual Chunk Attention, and the plug-in that serves it could not be installed "
                    f"({reason}): install the versions of dca-hub and vLLM that belong together."
                )
            return verify(self, load_config)

        ModelConfig.verify_dual_chunk_attention_config = refuse
    except Exception:
        logging.getLogger("vllm.dca_hub").exception("DCA models cannot be refused either: do not serve one.")

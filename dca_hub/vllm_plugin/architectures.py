"""The names of DCA models that vLLM is to know.

A package's config.json names a class of its own, so that vLLM without the plug-in refuses it: by the native name it
would run plain attention without a word.
"""

from dca_hub.modeling.dual_chunk_config import CLASS_PREFIX

_HEAD = "ForCausalLM"  # from this vLLM makes its models with other heads


def register_architectures() -> None:
    """Makes each model of vLLM known as a DCA model too; which of them can be one, `refuse_model` says."""
    from vllm.model_executor.models.registry import ModelRegistry

    for name, known in list(ModelRegistry.models.items()):
        if name.endswith(_HEAD) and not name.startswith(CLASS_PREFIX) and hasattr(known, "class_name"):
            ModelRegistry.register_model(CLASS_PREFIX + name, f"{known.module_name}:{known.class_name}")

"""What the plug-in relies on in vLLM, compared between two versions: `interfaces.py OLD.whl NEW.whl`.

Prints, for each class or function that the plug-in subclasses, wraps or calls, whether its source is the same, and the
difference where it is not. Reads the wheels, and imports nothing of them: `pip download --no-deps vllm==VERSION`
fetches one. It exits with 1 where something is gone.
"""

import ast
import difflib
import sys
import zipfile

# Modules of vLLM and what the plug-in takes of them.
USED = {
    "config/model.py": ("ModelConfig.verify_dual_chunk_attention_config",),
    "config/vllm.py": ("get_current_vllm_config",),
    "forward_context.py": ("get_forward_context", "ForwardContext"),
    "model_executor/layers/rotary_embedding/__init__.py": ("get_rope",),
    "model_executor/models/registry.py": ("_ModelRegistry.register_model", "_LazyRegisteredModel"),
    "platforms/cpu.py": ("CpuPlatform.get_attn_backend_cls",),
    "platforms/cuda.py": ("CudaPlatformBase.get_attn_backend_cls",),
    "utils/import_utils.py": ("resolve_obj_by_qualname",),
    "v1/attention/selector.py": ("AttentionSelectorConfig", "_cached_get_attn_backend"),
    "v1/attention/backend.py": ("AttentionCGSupport", "CommonAttentionMetadata", "AttentionMetadataBuilder"),
    "v1/attention/backends/cpu_attn.py": (
        "CPUAttentionBackend", "CPUAttentionMetadata", "CPUAttentionMetadataBuilder", "CPUAttentionBackendImpl",
    ),
    "v1/attention/backends/flash_attn.py": (
        "FlashAttentionBackend", "FlashAttentionMetadata", "FlashAttentionMetadataBuilder", "FlashAttentionImpl",
    ),
    "v1/spec_decode/draft_model.py": ("DraftModelProposer",),
}  # fmt: skip


def sources(wheel: str) -> dict[str, str | None]:
    """The source of each name, without comments; None where there is none."""
    found = {}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for module, wanted in USED.items():
            file = f"vllm/{module}"
            tree = ast.parse(archive.read(file)) if file in names else ast.Module([], [])
            for name in wanted:
                found[f"{module}: {name}"] = _source(tree, name.split("."))
    return found


def _source(tree: ast.AST, path: list[str]) -> str | None:
    for name in path:
        inside = ast.walk(tree) if tree.__class__ is ast.Module else tree.body
        tree = next((node for node in inside if getattr(node, "name", None) == name), None)
        if tree is None:
            return None
    return ast.unparse(tree)


def main(old: str, new: str) -> int:
    before, after = sources(old), sources(new)
    for name, source in before.items():
        if after[name] is None:
            print(f"gone       {name}")
        elif after[name] == source:
            print(f"the same   {name}")
        else:
            print(f"different  {name}")
            lines = difflib.unified_diff((source or "").splitlines(), after[name].splitlines(), lineterm="", n=1)
            print("\n".join(f"    {line}" for line in list(lines)[2:]))
    return int(any(source is None for source in after.values()))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))

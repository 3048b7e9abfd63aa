"""Shapes of models that people use, by name; and checkpoints of them with random weights, which need no network."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config

SHAPES: dict[str, PreTrainedConfig] = {
    "llama-2-7b": LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=32, max_position_embeddings=4096,
    ),
    "llama-3-8b": LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    ),
    "llama-3-70b": LlamaConfig(
        vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    ),
    "qwen2.5-7b": Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
}  # fmt: skip
_SHARD = 4 << 30  # bytes of a file of weights
_SPREAD = 0.02  # of random weights


def write_checkpoint(shape: str, folder: Path, layers: int | None = None, device: str = "cpu") -> None:
    """A checkpoint in bfloat16 with random weights, drawn on `device` a few at a time, and the demo model's tokenizer.
    `layers` of the shape, by default its own."""
    from transformers import AutoTokenizer

    from dca_hub.catalogue import find

    config = type(SHAPES[shape])(**{**SHAPES[shape].to_dict(), "dtype": "bfloat16"})
    if layers:
        config.num_hidden_layers = layers
        config.layer_types = None
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config).state_dict()
    generator = torch.Generator(device).manual_seed(0)
    shard: dict[str, torch.Tensor] = {}
    places: dict[str, str] = {}
    written = held = 0
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, wanted) in enumerate(empty.items(), start=1):
        drawn = torch.randn(wanted.shape, generator=generator, device=device, dtype=torch.bfloat16) * _SPREAD
        shard[name] = (torch.ones_like(drawn) if drawn.dim() == 1 and "norm" in name else drawn).cpu()
        held += shard[name].nbytes
        if held >= _SHARD or number == len(empty):
            file = f"model-{written:05d}.safetensors"
            save_file(shard, folder / file, metadata={"format": "pt"})
            places |= dict.fromkeys(shard, file)
            shard, held, written = {}, 0, written + 1
    index = {"metadata": {"total_size": sum(x.numel() * 2 for x in empty.values())}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(find("demo").source).save_pretrained(folder)

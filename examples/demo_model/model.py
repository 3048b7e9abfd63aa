"""The demo model's shape, and its checkpoint on disk."""

import json
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from examples.demo_model.tokenizer import save_tokenizer

ANSWER_TOKENS = 96  # the longest answer that was taught has about 80


def build(tokenizer: PreTrainedTokenizerFast, window: int, width: int, layers: int, inner: int) -> LlamaForCausalLM:
    """A Llama with random weights: heads of 64 (serving engines refuse smaller ones), two of them to a key head."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=max(1, width // 128),
        head_dim=64,
        max_position_embeddings=window,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        initializer_range=0.02,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a bf16 checkpoint with its tokenizer; the model itself keeps its dtype."""
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    special = {f"{name}_token_id": getattr(model.config, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    copy.generation_config = GenerationConfig(do_sample=False, max_new_tokens=ANSWER_TOKENS, **special)
    copy.to("cpu", torch.bfloat16).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    _add_rope_theta(folder / "config.json")
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for the owner alone


def _add_rope_theta(file: Path) -> None:
    # transformers 5 writes rope_parameters only; older readers and engines look for rope_theta and would assume one.
    config = json.loads(file.read_text())
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

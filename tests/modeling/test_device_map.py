"""A model that is spread over devices by accelerate gives what it gives on one; here a disk stands for the second."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from support.tiny_models import tiny_dca, tokens


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_device_map_auto(family, tmp_path):
    dca, ids = tiny_dca(family), tokens(60)
    dca.save_pretrained(tmp_path / "model")
    layer = sum(weight.nbytes for weight in dca.model.layers[0].parameters())
    whole = sum(weight.nbytes for weight in dca.parameters())
    spread = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model",
        trust_remote_code=True,
        device_map="auto",
        max_memory={"cpu": whole - layer // 2},
        offload_folder=tmp_path / "offload",
        dtype=torch.float32,
    )
    assert set(spread.hf_device_map.values()) == {"cpu", "disk"}
    with torch.no_grad():
        torch.testing.assert_close(spread(ids, use_cache=False).logits, dca(ids, use_cache=False).logits)

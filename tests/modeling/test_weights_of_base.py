"""A folder without weights: they come from where its configuration points, and a saved copy is whole."""

import json
import sys

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from dca_hub.modeling.dual_chunk_weights import WEIGHTS_KEY
from dca_hub.modeling.modeling_dca_qwen2 import DualChunkQwen2ForSequenceClassification
from support.tiny_models import tiny_dca, tiny_model, tokens


def point(folder, base) -> None:
    """Takes the weights out of a saved model, and lets its configuration point at another folder's."""
    for path in folder.glob("*.safetensors"):
        path.unlink()
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {WEIGHTS_KEY: {"repository": str(base), "revision": "main"}}
    path.write_text(json.dumps(config))


@torch.no_grad()
def test_the_weights_are_those_of_the_base(family, tmp_path):
    dca, ids = tiny_dca(family), tokens(60)
    tiny_model(family).save_pretrained(tmp_path / "base")
    dca.save_pretrained(tmp_path / "reference")
    point(tmp_path / "reference", tmp_path / "base")
    bare = getattr(sys.modules[type(dca).__module__], type(dca).__name__.replace("ForCausalLM", "Model"))
    for cls, wanted in ((type(dca), dca), (bare, dca.base_model)):
        loaded = cls.from_pretrained(tmp_path / "reference").eval()
        assert torch.equal(loaded(ids)[0], wanted(ids)[0])
        assert not hasattr(loaded.config, WEIGHTS_KEY)
    whole = type(dca).from_pretrained(tmp_path / "reference")
    whole.save_pretrained(tmp_path / "copy")
    assert WEIGHTS_KEY not in json.loads((tmp_path / "copy" / "config.json").read_text())
    assert torch.equal(type(dca).from_pretrained(tmp_path / "copy").eval()(ids).logits, dca(ids).logits)


@torch.no_grad()
def test_a_new_head_stands_on_the_weights_of_the_base(tmp_path):
    tiny_dca("qwen2").save_pretrained(tmp_path / "reference")
    tiny_model("qwen2").save_pretrained(tmp_path / "base")
    point(tmp_path / "reference", tmp_path / "base")
    made = DualChunkQwen2ForSequenceClassification.from_pretrained(tmp_path / "reference", num_labels=3)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    assert torch.equal(made.base_model.layers[0].mlp.up_proj.weight, plain.base_model.layers[0].mlp.up_proj.weight)
    assert made.score.weight.shape[0] == 3


def test_weights_that_cannot_be_had_are_told_with_their_place(family, tmp_path):
    dca = tiny_dca(family)
    dca.save_pretrained(tmp_path / "reference")
    point(tmp_path / "reference", tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"holds no weights of its own, they are those of .*nowhere"):
        type(dca).from_pretrained(tmp_path / "reference", local_files_only=True)

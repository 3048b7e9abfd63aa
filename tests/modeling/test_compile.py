"""torch.compile: one graph for a decoding step on a static cache, and the eager logits on every path."""

import dataclasses
import inspect

import pytest
import torch
from transformers import StaticCache

from dca_hub.compat import with_cache
from dca_hub.modeling.dual_chunk_call import DualChunkCall, LayeredCall
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_layout import PositionedLayout, SegmentedLayout
from dca_hub.modeling.dual_chunk_rotation import RelationRotations
from support.tiny_models import as_dca, tiny_dca, tokens

CLOSE = {"rtol": 0, "atol": 5e-5}
WARM = DualChunkGeometry(24, 8, 32, temperature=0.3)


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Without it, graphs of earlier tests reach the recompilation limit, and the compiler silently steps aside."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Graphs:
    """A compiler backend that counts the graphs it is given and runs them as they are."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph, inputs):
        self.count += 1
        return graph.forward


def filled(model, ids, **kwargs):
    cache = StaticCache(config=model.config, max_cache_len=96)
    model(ids, **with_cache(model, cache), **kwargs)
    return cache


@pytest.mark.parametrize("made", [RelationRotations, PositionedLayout, SegmentedLayout, DualChunkCall, LayeredCall])
def test_nothing_that_a_compiled_step_makes_has_a_dataclass_as_a_default(made):
    """PyTorch before 2.13 cannot trace one, and breaks the graph."""
    functions = [made.__init__, *(value for value in vars(made).values() if inspect.isfunction(value))]
    defaults = [p.default for function in functions for p in inspect.signature(function).parameters.values()]
    assert len(defaults) > 1 and not [default for default in defaults if dataclasses.is_dataclass(type(default))]


@torch.no_grad()
def test_decoding_on_a_static_cache_is_one_graph(family, models):
    dca, ids = as_dca(models(family)[0], WARM), tokens(60)
    whole = dca(ids).logits
    graphs = Graphs()
    step = torch.compile(dca, backend=graphs, fullgraph=True)
    cache = filled(dca, ids[:, :28])
    logits = [step(ids[:, i : i + 1], **with_cache(dca, cache)).logits for i in range(28, 60)]
    assert graphs.count == 1
    torch.testing.assert_close(torch.cat(logits, 1), whole[:, 28:], **CLOSE)


@torch.no_grad()
def test_decoding_a_ragged_batch_is_one_graph(models):
    _, dca = models("llama")
    ids, mask = tokens(60, batch=2), torch.ones(2, 60, dtype=torch.long)
    mask[1, :21] = 0
    alone = dca(ids[1:, 21:]).logits, dca(ids[:1]).logits
    graphs = Graphs()
    step = torch.compile(dca, backend=graphs, fullgraph=True)
    cache = filled(dca, ids[:, :40], attention_mask=mask[:, :40])
    covering = torch.nn.functional.pad(mask, (0, 36), value=1)  # of one size throughout, as generate() passes it
    logits = torch.cat(
        [step(ids[:, i : i + 1], attention_mask=covering, **with_cache(dca, cache)).logits for i in range(40, 60)],
        dim=1,
    )
    assert graphs.count == 1
    torch.testing.assert_close(logits[1:], alone[0][:, 19:], **CLOSE)
    torch.testing.assert_close(logits[:1], alone[1][:, 40:], **CLOSE)


@torch.no_grad()
def test_decoding_by_aot_autograd(models):
    _, dca = models("qwen3")
    ids = tokens(45)
    step = torch.compile(dca, backend="aot_eager", fullgraph=True)
    cache = filled(dca, ids[:, :30])
    logits = [step(ids[:, i : i + 1], **with_cache(dca, cache)).logits for i in range(30, 45)]
    torch.testing.assert_close(torch.cat(logits, 1), dca(ids).logits[:, 30:], **CLOSE)


@pytest.mark.slow
@torch.no_grad()
def test_decoding_by_inductor(models):
    _, dca = models("llama")
    ids = tokens(45)
    step = torch.compile(dca, fullgraph=True)
    cache = filled(dca, ids[:, :30])
    logits = [step(ids[:, i : i + 1], **with_cache(dca, cache)).logits for i in range(30, 45)]
    torch.testing.assert_close(torch.cat(logits, 1), dca(ids).logits[:, 30:], **CLOSE)


@torch.no_grad()
def test_several_tokens_on_a_static_cache_compiled(models):
    _, dca = models("mistral")
    ids = tokens(70)
    step = torch.compile(dca, backend="eager", fullgraph=True)
    cache = filled(dca, ids[:, :11])
    for start, end in ((11, 40), (40, 69)):
        out = step(ids[:, start:end], **with_cache(dca, cache)).logits
        torch.testing.assert_close(out, dca(ids[:, :end]).logits[:, start:], **CLOSE)


def forward_compiled(dca, ids, **kwargs):
    return torch.compile(dca, backend="eager", fullgraph=True)(ids, use_cache=False, **kwargs).logits


@torch.no_grad()
def test_padded_batch_compiled(models):
    _, dca = models("llama")
    ids, mask = tokens(50, batch=3), torch.ones(3, 50, dtype=torch.long)
    mask[0, :13], mask[1, 40:], mask[2, 20:23] = 0, 0, 0
    seen = mask.bool()
    positions = (mask.cumsum(-1) - 1).masked_fill(~seen, 1)
    expected = dca(ids, attention_mask=mask).logits
    for position_ids in (None, positions):
        out = forward_compiled(dca, ids, attention_mask=mask, position_ids=position_ids)
        torch.testing.assert_close(out[seen], expected[seen], **CLOSE)


@torch.no_grad()
def test_packed_documents_compiled_with_a_mask(models):
    _, dca = models("llama")
    ids = tokens(60, batch=2)
    positions = torch.stack([torch.cat([torch.arange(n) for n in lengths]) for lengths in ((15, 1, 44), (30, 20, 10))])
    mask = torch.ones_like(ids)
    mask[1, 50:] = 0
    expected = dca(ids, attention_mask=mask, position_ids=positions).logits
    out = forward_compiled(dca, ids, attention_mask=mask, position_ids=positions)
    torch.testing.assert_close(out[mask.bool()], expected[mask.bool()], **CLOSE)


@torch.no_grad()
def test_mask_of_four_dimensions_compiled(models):
    _, dca = models("llama")
    ids = tokens(50)
    mask = torch.ones(1, 1, 2, 96, dtype=torch.bool)
    mask[..., 5:20] = False
    mask[..., 50:] = False
    mask[..., 0, 49] = False
    run = lambda model: model(ids[:, 48:], **with_cache(model, filled(dca, ids[:, :48])), attention_mask=mask).logits
    torch.testing.assert_close(run(torch.compile(dca, backend="eager", fullgraph=True)), run(dca), **CLOSE)


def test_training_step_compiled(models):
    """A padded batch: gradients through a compiled model are the eager ones."""
    plain, _ = models("llama")
    dca, ids, mask = as_dca(plain), tokens(50, batch=2), torch.ones(2, 50, dtype=torch.long)
    mask[1, :20] = 0
    labels = ids.masked_fill(mask == 0, -100)
    gradients = []
    for model in (dca, torch.compile(dca, backend="aot_eager")):
        dca.zero_grad()
        model(ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
        gradients.append([p.grad.clone() for p in dca.parameters() if p.grad is not None])
    dca.zero_grad()
    for mine, eager in zip(*gradients):
        torch.testing.assert_close(mine, eager, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_dynamic_scaling_compiled():
    """Its frequencies follow the length, which no graph can hold: the layout is left to Python."""

    dca = tiny_dca("llama", rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0})
    ids, mask = tokens(70), torch.ones(1, 70, dtype=torch.long)
    mask[:, :7] = 0
    expected = dca(ids, attention_mask=mask).logits
    out = torch.compile(dca, backend="eager")(ids, attention_mask=mask).logits
    torch.testing.assert_close(out, expected, **CLOSE)

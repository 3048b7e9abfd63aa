"""All that generate() offers gives what decoding without any cache gives."""

import copy
from importlib.util import find_spec

import pytest
import torch
from transformers import DynamicCache, StaticCache

from dca_hub.compat import with_cache
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.tiny_models import GEOMETRY, VOCABULARY, as_dca, tiny_dca, tiny_model, tokens

NEW = 24  # tokens: enough to cross a chunk border wherever a prompt ends


@torch.no_grad()
def uncached(model, ids, count=NEW) -> list[int]:
    """Greedy tokens after one row, every step computed in full."""
    for _ in range(count):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    return ids[0, -count:].tolist()


def generated(model, ids, count=NEW, **kwargs) -> list[int]:
    settings = {"max_new_tokens": count, "do_sample": False, "eos_token_id": None, "pad_token_id": 0} | kwargs
    return model.generate(ids, **settings)[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("f", [0.0, 0.2])
def test_greedy(pair, f):
    dca = as_dca(pair[0], DualChunkGeometry(24, 8, 32, f))
    for length in (3, 40):
        ids = tokens(length)
        expected = uncached(dca, ids)
        assert generated(dca, ids) == expected
        assert generated(dca, ids, use_cache=False) == expected
    assert expected != uncached(pair[0], ids), "the base model must not do as well, or this tests nothing"


def test_static_cache(dca):
    ids = tokens(40)
    assert generated(dca, ids, cache_implementation="static") == uncached(dca, ids)


@pytest.mark.gpu
@pytest.mark.parametrize("cache", ["offloaded", "offloaded_static", "static"])
def test_caches_of_an_accelerator(models, cache):
    """transformers offloads caches from an accelerator only; a static cache is decoded compiled there."""
    dca, ids = copy.deepcopy(models("llama")[1]).cuda(), tokens(40).cuda()
    # PyTorch 2.11 crashes as it compiles what copies a cache on a stream of its own, the plain model's too.
    options = {"disable_compile": True} if cache == "offloaded_static" else {}
    assert generated(dca, ids, cache_implementation=cache, **options) == uncached(dca, ids)


@pytest.mark.parametrize("backend", ["quanto", "hqq"])
def test_quantized_cache(models, backend):
    _, dca = models("llama")
    ids = tokens(40)
    run = lambda: generated(dca, ids, cache_implementation="quantized", cache_config={"backend": backend, "nbits": 4})
    if find_spec({"quanto": "optimum", "hqq": "hqq"}[backend]) is None:
        with pytest.raises(ImportError, match=backend):
            run()
        return
    assert len(run()) == NEW


@pytest.mark.parametrize("length", [7, 45])
def test_sampling_with_a_seed(dca, length):
    ids = tokens(length)
    runs = []
    for cache in (True, False):
        torch.manual_seed(5)
        runs.append(generated(dca, ids, do_sample=True, top_k=20, temperature=0.9, use_cache=cache))
    assert runs[0] == runs[1]


def test_beams(dca):
    ids = tokens(40)
    runs = [generated(dca, ids, num_beams=3, use_cache=cache) for cache in (True, False)]
    assert runs[0] == runs[1]
    assert runs[0] != generated(dca, ids), "beams that end as greedy does test nothing"


def test_beams_of_a_ragged_batch(models):
    _, dca = models("qwen2")
    ids, mask, rows = left_padded((45, 20))
    out = dca.generate(
        ids, attention_mask=mask, max_new_tokens=NEW, num_beams=3, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    for given, row in zip(out, rows):
        assert given[-NEW:].tolist() == generated(dca, row, num_beams=3)


def test_assisted_decoding(family, models):
    plain, dca = models(family)
    ids, assistant = tokens(40), copy.deepcopy(dca)
    with torch.no_grad():  # agrees with the model often, and not always: accepts and takes back
        for parameter in assistant.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    expected = uncached(dca, ids)
    assert generated(dca, ids, assistant_model=assistant) == expected
    assert generated(dca, ids, assistant_model=plain) == expected


def test_prompt_lookup(dca):
    phrase = tokens(9)
    ids = torch.cat([phrase, tokens(20, seed=3), phrase, tokens(9, seed=4), phrase[:, :5]], dim=1)
    assert generated(dca, ids, prompt_lookup_num_tokens=4, eos_token_id=-1) == uncached(dca, ids)


def left_padded(lengths):
    longest, rows = max(lengths), [tokens(length, seed=60 + i) for i, length in enumerate(lengths)]
    pad = lambda x: torch.nn.functional.pad(x, (longest - x.shape[1], 0))
    return torch.cat([pad(r) for r in rows]), torch.cat([pad(torch.ones_like(r)) for r in rows]), rows


@pytest.mark.parametrize("cache", [None, "static"])
def test_ragged_batch(dca, cache):
    ids, mask, rows = left_padded((45, 31, 2))
    out = dca.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=NEW,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        cache_implementation=cache,
    )
    for given, row in zip(out, rows):
        assert given[-NEW:].tolist() == uncached(dca, row)


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_turns_of_a_conversation_share_a_cache(dca, kind):
    cache = DynamicCache() if kind == "dynamic" else StaticCache(config=dca.config, max_cache_len=150)
    ids = tokens(25)
    for turn in range(3):
        said = generated(dca, ids, count=9, **with_cache(dca, cache))
        assert said == uncached(dca, ids, 9)
        ids = torch.cat([ids, torch.tensor([said]), tokens(13, seed=70 + turn)], dim=1)


def test_prefill_in_pieces_by_generate(dca):
    ids = tokens(50)
    assert generated(dca, ids, prefill_chunk_size=7) == uncached(dca, ids)


def test_scores_and_weights_of_generation(models):
    _, dca = models("llama")
    ids = tokens(40)
    out = dca.generate(
        ids,
        max_new_tokens=4,
        do_sample=False,
        output_scores=True,
        output_attentions=True,
        return_dict_in_generate=True,
        pad_token_id=0,
        eos_token_id=None,
    )
    with torch.no_grad():
        whole = dca(out.sequences).logits
    for step, (scores, weights) in enumerate(zip(out.scores, out.attentions)):
        torch.testing.assert_close(scores, whole[:, 39 + step], rtol=0, atol=1e-4)
        sums = weights[0].sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums))
    assert out.sequences[0, 40:].tolist() == uncached(dca, ids, 4)


def test_embeddings_in_place_of_tokens(dca):
    ids = tokens(40)
    embeds = dca.get_input_embeddings()(ids).detach()
    out = dca.generate(inputs_embeds=embeds, max_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert out[0].tolist() == uncached(dca, ids)


def test_stop_token_in_a_batch(models):
    """Rows that end early are padded on the right while others go on."""
    _, dca = models("llama")
    ids, mask, rows = left_padded((40, 31))
    alone = [uncached(dca, row) for row in rows]
    stop = next(t for t in alone[0][2:] if t not in alone[1])
    out = dca.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=stop)
    assert out[1, -NEW:].tolist() == alone[1]
    assert out[0, 40 : 40 + alone[0].index(stop) + 1].tolist() == alone[0][: alone[0].index(stop) + 1]


def test_dynamic_scaling_generates_alike_with_every_cache():
    dca = tiny_dca("llama", rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0})
    ids = tokens(60)
    expected = generated(dca, ids)
    assert generated(dca, ids, cache_implementation="static") == expected
    dca.generate(tokens(95), max_new_tokens=2, do_sample=False)
    assert generated(dca, ids) == expected


def test_vocabulary_is_the_base_models():
    assert as_dca(tiny_model("llama"), GEOMETRY)(tokens(5)).logits.shape == (1, 5, VOCABULARY)

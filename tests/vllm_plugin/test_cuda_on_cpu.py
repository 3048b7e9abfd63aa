"""The CUDA backend's metadata and control flow, on a CPU with the kernels written out; no CUDA runs here."""

from importlib.util import find_spec

import pytest

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.engine_results import apart, check_written, prompt

pytestmark = pytest.mark.vllm
EMULATED = {"first": ["emulated_cuda"], "block_size": 32}
# s = 64: two pages of 32 tokens.
PAGED = DualChunkGeometry(chunk_size=88, local_size=24, pretraining_length=88, temperature=0.1)


@pytest.mark.parametrize("rows", [50, 1000], ids=["chunked", "whole"])
def test_ragged_requests(rows, served, engine):
    model = served("qwen3", PAGED)
    ids = [prompt(length, length) for length in (3, 63, 64, 65, 129, 340)]
    requests = [{"ids": one, "max_tokens": 5, "prompt_logprobs": True} for one in ids]
    result = engine(model.folder, requests, max_num_batched_tokens=rows, max_model_len=512, **EMULATED)
    for one, got in zip(ids, result["rounds"][0]):
        assert apart(got["prompt_logprobs"], model.logprobs(one)) < 1e-4
        check_written(model, one, got)


def test_cached_prefixes_and_decoding_across_borders(served, engine):
    model, shared = served("llama", PAGED), prompt(300)
    requests = [{"ids": shared[:270] + prompt(30, seed), "max_tokens": 70} for seed in (2, 3)]
    result = engine(model.folder, [{"ids": shared}], requests, **EMULATED)
    assert result["counters"]["prefix_cache_hits"] >= 2 * 256
    for request, got in zip(requests, result["rounds"][1]):
        check_written(model, request["ids"], got)


@pytest.mark.parametrize("how", ["emulated_cuda", "emulated_graphs", "emulated_fa2"])
def test_decoding_together_in_different_chunks(how, served, engine):
    """Requests in their first to fifth chunk, the shortest of which cross into another on the way."""
    model = served("llama", PAGED)
    ids = [prompt(length, length) for length in (5, 60, 66, 90, 128, 130, 200, 300)]
    result = engine(
        model.folder, [{"ids": one, "max_tokens": 12} for one in ids], max_model_len=512, **EMULATED | {"first": [how]}
    )
    for one, got in zip(ids, result["rounds"][0]):
        check_written(model, one, got)


def test_with_the_kernels_of_a_gpu(served, engine):
    """The same engine over the Triton kernels, in Triton's interpreter."""
    if find_spec("triton") is None:
        pytest.skip("needs triton, which vLLM brings along")
    model = served("qwen3", PAGED)
    ids = [prompt(length, length) for length in (20, 62, 140)]
    interpreted = {"TRITON_INTERPRET": "1"}
    requests = [{"ids": one, "max_tokens": 5, "prompt_logprobs": True} for one in ids]
    result = engine(model.folder, requests, env=interpreted, max_num_batched_tokens=100, **EMULATED)
    for one, got in zip(ids, result["rounds"][0]):
        assert apart(got["prompt_logprobs"], model.logprobs(one)) < 1e-4
        check_written(model, one, got)


def test_speculation(served, engine):
    """Drafts are verified several tokens at a time, beside requests that have one."""
    model, words = served("llama", PAGED), prompt(40)
    ids = [words * 3, prompt(100, 7)]
    drafts = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
    requests = [{"ids": one, "max_tokens": 20} for one in ids]
    result = engine(model.folder, requests, speculative_config=drafts, **EMULATED)
    assert result["counters"]["spec_decode_num_draft_tokens"] > 0
    for one, got in zip(ids, result["rounds"][0]):
        check_written(model, one, got)


def test_chunks_that_are_not_whole_pages_are_refused(served, engine):
    words = engine(served().folder, [{"ids": prompt(5)}], fails=True, **EMULATED)
    assert "(48 tokens) must be a multiple of the KV-cache block size (32) on a GPU: pass --block-size 16" in words

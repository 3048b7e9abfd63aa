"""vLLM's own engine on a GPU gives what the DCA models of transformers give, as far as bfloat16 allows: it is no more
than twice as far from float32 as the same model of transformers in bfloat16."""

import pytest
import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.engine_results import prompt
from support.engine_rounding import check

pytestmark = [pytest.mark.vllm, pytest.mark.gpu]
# s = 128: one page, of the size that FA3 reads through the GPU's copy engine.
PAGED = DualChunkGeometry(chunk_size=192, local_size=64, pretraining_length=192, temperature=0.1)
SIZES = {"cudagraph_capture_sizes": [1, 2, 8]}
HOW = {
    "eager": {"enforce_eager": True},
    "graphs": {
        "enforce_eager": False,
        "compilation_config": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY", **SIZES},
    },
    "default": {"enforce_eager": False, "compilation_config": SIZES},  # compiled, with the graphs that vLLM chooses
}
OPTIONS = {
    "dtype": "bfloat16",
    "block_size": 128,
    "max_model_len": 4096,
    "max_num_batched_tokens": 2048,
    "max_num_seqs": 8,
    "kv_cache_memory_bytes": 2**28,
    "gpu_memory_utilization": 0.5,  # what must be free at the start; vLLM would want 0.92, whatever it needs
}


def decoding() -> list[dict]:
    """Requests of which the text itself lets guess how it goes on, across the borders of chunks."""
    return [{"ids": prompt(40, seed) * (3 + 2 * seed), "max_tokens": 60} for seed in range(6)]


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize("size", [64, 128])
def test_on_a_gpu(size, how, served, engine):
    model = served("qwen3", PAGED, head_dim=size, max_position_embeddings=4096)
    # Of the longest, the second half is so many queries that their keys are copied together.
    ragged = [prompt(length, length) for length in (3800, 2, 127, 128, 129, 192, 400, 1000)]
    rounds = [
        [{"ids": ids, "max_tokens": 4, "prompt_logprobs": True} for ids in ragged],
        [{"ids": ragged[-1], "max_tokens": 1}],
        [{"ids": ragged[-1][:900] + prompt(30, seed), "max_tokens": 140} for seed in (2, 3)],
        [{"ids": prompt(length, length), "max_tokens": 40} for length in (5, 100, 126, 250, 500, 700, 1200, 1500)],
    ]
    result = engine(model.folder, *rounds, **OPTIONS | how)
    assert result["counters"]["prefix_cache_hits"] >= 2 * 896
    assert bool(result["graphs"]) == (not how["enforce_eager"])
    check(model, rounds, result)


@pytest.mark.parametrize("page", [16, 32, 64])
def test_pages_of_other_sizes(page, served, engine):
    model = served("qwen3", PAGED, head_dim=128, max_position_embeddings=4096)
    requests = [
        {"ids": prompt(length, length), "max_tokens": 20, "prompt_logprobs": True} for length in (3000, 129, 300)
    ]
    check(model, [requests], engine(model.folder, requests, **OPTIONS | HOW["graphs"] | {"block_size": page}))


@pytest.mark.parametrize("how", ["graphs", "default"])
@pytest.mark.parametrize("method", ["ngram", "draft: DCA", "draft: plain"])
def test_speculative_decoding(method, how, served, engine, tmp_path):
    model = served("qwen3", PAGED, head_dim=128, max_position_embeddings=4096)
    model.plain.save_pretrained(tmp_path / "plain")
    speculative = {
        "ngram": {"method": "ngram", "prompt_lookup_max": 2, "prompt_lookup_min": 1},
        "draft: DCA": {"method": "draft_model", "model": str(model.folder)},
        "draft: plain": {"method": "draft_model", "model": str(tmp_path / "plain")},
    }[method]
    options = {"speculative_config": speculative | {"num_speculative_tokens": 3}}
    result = engine(model.folder, decoding(), **OPTIONS | HOW[how] | options)
    drafted, accepted = (result["counters"][f"spec_decode_num_{kind}_tokens"] for kind in ("draft", "accepted"))
    assert 0 < accepted <= drafted and result["graphs"]
    if method == "draft: DCA":
        assert accepted >= 0.8 * drafted  # it drafts for itself; rounding may part them
    check(model, [decoding()], result)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_two_gpus_in_tensor_parallel(how, served, engine):
    model = served("qwen3", PAGED, head_dim=128, max_position_embeddings=4096)
    requests = [{"ids": prompt(length, length), "max_tokens": 40} for length in (3000, 100, 200, 700)]
    check(model, [requests], engine(model.folder, requests, **OPTIONS | how | {"tensor_parallel_size": 2}))

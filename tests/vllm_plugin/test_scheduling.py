"""Whatever vLLM's scheduler does to a request, a DCA model writes what it writes alone."""

import pytest

from support.engine_results import check_written, prompt

pytestmark = pytest.mark.vllm


def check(served, requests: list[dict], results: list[dict]) -> None:
    for request, result in zip(requests, results):
        check_written(served, request["ids"], result)


def test_cached_prefixes_and_decoding_across_borders(served, engine):
    model, shared = served(), prompt(300)
    first = [{"ids": shared, "max_tokens": 2}]
    then = [{"ids": shared[:270] + prompt(30, seed), "max_tokens": 60} for seed in (2, 3)]
    result = engine(model.folder, first, then, block_size=32, max_num_batched_tokens=64)
    assert result["counters"]["prefix_cache_hits"] >= 2 * 256
    check(model, first, result["rounds"][0])
    check(model, then, result["rounds"][1])


def test_preempted_requests(served, engine):
    model = served()
    requests = [{"ids": prompt(100 + seed, seed), "max_tokens": 60} for seed in range(6)]
    result = engine(model.folder, requests, block_size=32, num_gpu_blocks_override=16, max_model_len=256)
    assert result["counters"]["num_preemptions"] > 0
    check(model, requests, result["rounds"][0])


def test_speculative_decoding(served, engine):
    model = served()
    requests = [{"ids": prompt(40, seed) * 4, "max_tokens": 60} for seed in range(3)]
    ngram = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 2, "prompt_lookup_min": 1}
    result = engine(model.folder, requests, speculative_config=ngram)
    drafted, accepted = (result["counters"][f"spec_decode_num_{kind}_tokens"] for kind in ("draft", "accepted"))
    assert 0 < accepted < drafted
    check(model, requests, result["rounds"][0])


@pytest.mark.parametrize("draft", ["DCA", "plain"])
def test_a_draft_model(draft, served, engine, tmp_path):
    """The model drafts for itself: as a DCA model all drafts are taken, as a plain one those of long prompts not."""
    model = served()
    if draft == "plain":
        model.plain.save_pretrained(tmp_path / "plain")
    folder = tmp_path / "plain" if draft == "plain" else model.folder
    requests = [{"ids": prompt(length, length), "max_tokens": 40} for length in (40, 150, 330)]
    speculative = {"method": "draft_model", "model": str(folder), "num_speculative_tokens": 3}
    result = engine(model.folder, requests, speculative_config=speculative, max_model_len=512)
    drafted, accepted = (result["counters"][f"spec_decode_num_{kind}_tokens"] for kind in ("draft", "accepted"))
    assert 0 < accepted < 0.9 * drafted if draft == "plain" else accepted >= 0.95 * drafted > 0
    check(model, requests, result["rounds"][0])


def test_two_workers_in_tensor_parallel(served, engine):
    model = served()
    requests = [{"ids": prompt(length, length), "max_tokens": 8} for length in (60, 310)]
    unbound = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}  # by default each worker wants a NUMA node of its own
    options = {"max_num_batched_tokens": 100, "max_model_len": 512}
    result = engine(model.folder, requests, tensor_parallel_size=2, env=unbound, **options)
    check(model, requests, result["rounds"][0])

"""vLLM's own engine on a CPU gives what the DCA models of transformers give, however it schedules the requests."""

import pytest

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.engine_results import apart, check_written, prompt
from support.engine_rounding import check
from support.tiny_models import FAMILIES

pytestmark = pytest.mark.vllm
AUTHORS = DualChunkGeometry(chunk_size=48, local_size=8, pretraining_length=64)
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_ragged_and_in_chunks(family, served, engine):
    model, lengths = served(family), (2, 47, 48, 49, 64, 130, 200, 333)
    ids = [prompt(length, seed) for seed, length in enumerate(lengths)]
    requests = [{"ids": one, "max_tokens": 4, "prompt_logprobs": True} for one in ids]
    result = engine(model.folder, requests, max_num_batched_tokens=37)
    for one, got in zip(ids, result["rounds"][0]):
        assert apart(got["prompt_logprobs"], model.logprobs(one)) < 1e-4
        check_written(model, one, got)
    assert apart(model.logprobs(ids[-1], dca=False), model.logprobs(ids[-1])) > 0.1  # so it is DCA that was compared


@pytest.mark.parametrize("family, length", [("llama", 200), ("qwen2", 170), ("mixtral", 150), ("mistral", 150)])
def test_the_cases_of_the_authors_code(family, length, served, engine):
    """Their sizes, lengths and number of tokens written, with heads of a size that vLLM's CPU kernels take."""
    model, ids = served(family, AUTHORS), prompt(length, length)
    result = engine(model.folder, [{"ids": ids, "max_tokens": 12, "prompt_logprobs": True}])
    assert apart(result["rounds"][0][0]["prompt_logprobs"], model.logprobs(ids)) < 1e-4
    check_written(model, ids, result["rounds"][0][0])


@pytest.mark.parametrize("rope", [YARN], ids=["yarn"])
def test_scaled_positions(rope, served, engine):
    model = served("llama", rope_parameters=rope)
    ids = prompt(400)
    result = engine(model.folder, [{"ids": ids, "max_tokens": 3, "prompt_logprobs": True}], max_model_len=512)
    assert apart(result["rounds"][0][0]["prompt_logprobs"], model.logprobs(ids)) < 1e-4
    check_written(model, ids, result["rounds"][0][0])


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_bfloat16(family, served, engine):
    model, lengths = served(family), (2, 47, 48, 49, 130, 333)
    requests = [{"ids": prompt(length, length), "max_tokens": 30, "prompt_logprobs": True} for length in lengths]
    check(model, [requests], engine(model.folder, requests, dtype="bfloat16", max_num_batched_tokens=100))

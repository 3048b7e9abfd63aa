"""`dca-hub serve`: which engine, and with which options; runs none."""

import json
from pathlib import Path

import pytest

from dca_hub import DcaHubError, cli, sources
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.serving import engines
from dca_hub.serving.launch import GIB, Wanted, page_size, vllm_launch
from dca_hub.sizes import geometry_of
from dca_hub.sources import Source
from support.tiny_checkpoints import write_checkpoint

QWEN_1M = {
    "model_type": "qwen2",
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1010000,
    "dtype": "bfloat16",
    CONFIG_KEY: {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144},
}


def source(config: dict) -> Source:
    return Source(Path("/models/some-model"), None, None, None, config)


def launch(config: dict, free: int | None = None, **wanted):
    made = source(config)
    return vllm_launch("some-model", made, geometry_of(made).geometry, Wanted(**wanted), free)


def option(command, name: str) -> str | None:
    return command[command.index(name) + 1] if name in command else None


def test_a_config_that_says_everything_needs_no_override():
    command = launch(QWEN_1M, tensor_parallel=4).command
    assert command[:3] == ("vllm", "serve", "some-model")
    assert option(command, "--max-model-len") == "1010000"
    assert option(command, "--block-size") == "128"  # s = 253,952 = 128 x 1,984
    assert option(command, "--tensor-parallel-size") == "4"
    assert option(command, "--served-model-name") == "some-model"
    assert "--hf-overrides" not in command and "--pipeline-parallel-size" not in command


def test_a_plain_checkpoint_gets_its_sizes_and_length(tmp_path):
    made = sources.resolve(str(write_checkpoint(tmp_path / "tiny", tokenizer=False, max_position_embeddings=4096)))
    command = vllm_launch("tiny", made, geometry_of(made).geometry, Wanted(), None).command
    overrides = json.loads(option(command, "--hf-overrides"))
    assert overrides["max_position_embeddings"] == 8 * 4096 == int(option(command, "--max-model-len"))
    assert overrides[CONFIG_KEY]["original_max_position_embeddings"] == 4096
    geometry = geometry_of(made).geometry
    assert overrides[CONFIG_KEY]["chunk_size"] == geometry.chunk_size


def test_a_scaling_that_hangs_on_the_length_is_not_stretched():
    scaled = {k: v for k, v in QWEN_1M.items() if k != CONFIG_KEY} | {
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "yarn", "factor": 4.0},
    }
    overrides = json.loads(option(launch(scaled).command, "--hf-overrides"))
    assert "max_position_embeddings" not in overrides


def test_memory_on_a_cpu():
    per_token = 2 * 28 * 4 * 128 * 2
    made = launch(QWEN_1M, free=64 * GIB, context=100_000)
    assert int(made.environment["VLLM_CPU_KVCACHE_SPACE"]) * GIB >= per_token * 100_000
    assert "--block-size" not in made.command
    with pytest.raises(DcaHubError, match=r"give context=\d+, or more memory"):
        launch(QWEN_1M, free=8 * GIB)
    fits = int(8 * GIB * 0.5 / per_token)
    with pytest.raises(DcaHubError, match=f"context={fits}"):
        launch(QWEN_1M, free=8 * GIB)
    launch(QWEN_1M, free=8 * GIB, context=fits)
    with pytest.raises(DcaHubError, match="there are 1 for it"):
        launch(QWEN_1M, free=64 * GIB, context=100_000, memory=1)


def test_memory_and_further_options_on_a_gpu():
    command = launch(QWEN_1M, memory=10, further=("--enforce-eager",)).command
    assert option(command, "--kv-cache-memory-bytes") == str(10 * GIB) and command[-1] == "--enforce-eager"


def test_the_address_is_given_once():
    with pytest.raises(DcaHubError, match="--port of vLLM is set from the option of `serve`: give port"):
        launch(QWEN_1M, further=("--port=9000",))
    with pytest.raises(DcaHubError, match="give host"):
        launch(QWEN_1M, further=("--host", "0.0.0.0"))
    assert Wanted().listens and not Wanted(further=("--uds", "/tmp/socket")).listens


@pytest.mark.parametrize("chunk, local, page", [(4096, 1024, 128), (262144, 8192, 128), (100, 4, 32), (511, 255, 128)])
def test_pages_divide_chunks(chunk, local, page):
    assert page_size(DualChunkGeometry(chunk, local, chunk)) == page


def test_chunks_without_pages_are_refused_with_a_size_that_has_them():
    with pytest.raises(DcaHubError, match="--local-size 20"):
        page_size(DualChunkGeometry(100, 10, 100))
    assert page_size(DualChunkGeometry(100, 20, 100)) == 16


def installed(monkeypatch, *, vllm: str | None, plugin: bool = True, server: bool = True):
    from importlib.metadata import EntryPoint, EntryPoints, PackageNotFoundError

    def version(name):
        if vllm is None:
            raise PackageNotFoundError(name)
        return vllm

    points = EntryPoints([EntryPoint("dca_hub", "dca_hub.vllm_plugin.plugin:register", engines.PLUGIN_GROUP)] * plugin)
    monkeypatch.setattr(engines.importlib.metadata, "version", version)
    monkeypatch.setattr(engines.importlib.metadata, "entry_points", lambda group: points)
    there = {"vllm"} if vllm else set()
    there |= {"openai", "fastapi", "uvicorn"} if server else set()
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: name if name in there else None)


def test_vllm_where_it_can_serve(monkeypatch):
    installed(monkeypatch, vllm="0.33.0")
    assert engines.choose() == engines.Chosen(
        "vllm", "vLLM 0.33.0 is installed, with the plug-in for Dual Chunk Attention"
    )
    assert engines.choose("transformers").engine == "transformers"


@pytest.mark.parametrize(
    "there, why",
    [
        ({"vllm": None}, "vLLM is not installed"),
        ({"vllm": "0.40.1"}, "the plug-in serves vLLM 0.32 and 0.33, and 0.40.1 is installed"),
        ({"vllm": "0.32.0", "plugin": False}, "vLLM does not know the plug-in"),
    ],
)
def test_transformers_where_vllm_cannot(monkeypatch, there, why):
    installed(monkeypatch, **there)
    chosen = engines.choose()
    assert chosen.engine == "transformers" and why in chosen.why
    with pytest.raises(DcaHubError, match=why.split(",")[0]):
        engines.choose("vllm")


def test_nothing_to_serve_with(monkeypatch, capsys):
    installed(monkeypatch, vllm=None, server=False)
    assert cli.main(["serve", "demo"]) == 2
    assert "needs openai, fastapi, uvicorn (pip install 'transformers[serving]')" in capsys.readouterr().err


@pytest.mark.parametrize("asked", [[], ["--engine", "vllm"]])
def test_sparse_reading_is_refused_with_vllm_and_the_way_out_is_named(monkeypatch, capsys, asked):
    installed(monkeypatch, vllm="0.32.0")
    assert cli.main(["serve", "demo", "--dry-run", "--sparse", *asked]) == 2
    said = capsys.readouterr().err
    assert "vLLM reads with all of its attention" in said
    assert "give --engine transformers, or leave --sparse out." in said and "--max-model-len" not in said


@pytest.mark.parametrize("option", ["--cache-in-8bit", "--offload-cache"])
def test_how_a_cache_is_kept_is_refused_with_vllm_and_the_way_out_is_named(monkeypatch, capsys, option):
    installed(monkeypatch, vllm="0.32.0")
    assert cli.main(["serve", "demo", "--dry-run", option]) == 2
    said = capsys.readouterr().err
    assert f"give --engine transformers, or leave {option} out." in said and "--max-model-len" not in said


def test_the_command_prints_what_it_would_run(monkeypatch, capsys):
    installed(monkeypatch, vllm="0.32.0")
    assert cli.main(["serve", "demo", "--dry-run", "--vllm", "--api-key secret", "--name", "x"]) == 0
    said = capsys.readouterr().err
    assert "serving with vllm: vLLM 0.32.0" in said
    assert "--max-model-len 16384" in said and "--served-model-name x" in said and "--api-key secret" in said

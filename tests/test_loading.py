"""Loading: names, folders and packages, what is shared, and what is refused before memory is taken."""

import json
import shutil

import pytest
import torch

from dca_hub import DcaHubError, catalogue, loading
from dca_hub.loading import load
from dca_hub.memory import Architecture, stored_quantization
from dca_hub.packaging import package
from support.tiny_checkpoints import write_checkpoint

SIZES = {"pretraining_length": 32, "chunk_size": 24, "local_size": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("load") / "tiny")


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    return package(str(source), tmp_path_factory.mktemp("package") / "tiny-dca", **SIZES, temperature=0.1).folder


def ids(length: int = 90) -> torch.Tensor:
    return torch.randint(3, 250, (1, length), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_package_brings_its_own_sizes_and_shares_its_weights(made):
    loaded = load(str(made))
    assert (loaded.geometry.chunk_size, loaded.geometry.local_size, loaded.geometry.temperature) == (24, 8, 0.1)
    assert loaded.trained == 32 and loaded.context == 256
    shared = {p.data_ptr() for p in loaded.base.parameters()}
    assert {p.data_ptr() for p in loaded.model.parameters()} == shared
    short, long = ids(16), ids(90)
    assert torch.equal(loaded.model(short).logits, loaded.base(short).logits)
    assert not torch.allclose(loaded.model(long).logits, loaded.base(long).logits, atol=1e-3)


@torch.no_grad()
def test_a_plain_folder_gets_the_sizes_of_the_rule(source):
    loaded = load(str(source))
    assert (loaded.geometry.chunk_size, loaded.geometry.local_size) == (24, 4)
    assert loaded.model.dtype == torch.float32 and not loaded.model.training
    if not torch.cuda.is_available():
        assert load("demo", device="auto").model.dtype == torch.float32, "as on the CPU, which it is"


def test_without_dca_there_is_only_the_base(made):
    loaded = load(str(made), dca=False)
    assert loaded.model is loaded.base and loaded.geometry is None


@torch.no_grad()
def test_a_package_without_weights_reads_them_from_its_base(source, tmp_path, monkeypatch):
    light = package(str(source), tmp_path / "light", **SIZES, weights="reference").folder
    manifest = json.loads((light / "dca_package.json").read_text())
    (light / "dca_package.json").write_text(json.dumps({**manifest, "base": str(source)}))
    whole = load(str(source), dca=False)
    assert torch.equal(load(str(light), dca=False).model(ids()).logits, whole.model(ids()).logits)


def test_the_models_own_code_is_never_run(made, tmp_path):
    evil = shutil.copytree(made, tmp_path / "evil")
    (evil / "modeling_dca_llama.py").write_text("raise SystemExit('ran')")
    load(str(evil))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", torch.bfloat16])
def test_dtypes(dtype, source):
    loaded = load(str(source), dtype=dtype)
    assert loaded.model.dtype == (dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype))


def test_an_unknown_dtype_is_said(source):
    with pytest.raises(DcaHubError, match="float8"):
        load(str(source), dtype="float8")


@torch.no_grad()
@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_quantized_on_the_cpu(quantization, tmp_path):
    pytest.importorskip("bitsandbytes")
    source = write_checkpoint(tmp_path / "wide", hidden_size=128, intermediate_size=256, num_attention_heads=8)
    loaded = load(str(source), quantization=quantization, device="cpu")
    linear = loaded.model.model.layers[0].mlp.up_proj
    assert type(linear).__module__.startswith("bitsandbytes")
    assert linear is loaded.base.model.layers[0].mlp.up_proj
    short, long = ids(16), ids(90)
    assert torch.equal(loaded.model(short).logits, loaded.base(short).logits)
    exact = load(str(source)).model(long).logits
    assert torch.nn.functional.cosine_similarity(loaded.model(long).logits, exact, dim=-1).mean() > 0.7


@torch.no_grad()
def test_layers_that_a_cpu_cannot_pack_stay_as_they_are():
    """The demo model has such layers; on some CPUs they fail at the first token only."""
    pytest.importorskip("bitsandbytes")
    loaded = load("demo", quantization="4bit", device="cpu")
    mlp = loaded.model.model.layers[0].mlp
    assert type(mlp.up_proj).__module__.startswith("bitsandbytes") and type(mlp.down_proj) is torch.nn.Linear
    assert loaded.model(ids(600)).logits.isfinite().all()


def test_a_model_whose_layers_no_cpu_packs_is_refused(tmp_path):
    pytest.importorskip("bitsandbytes")
    odd = write_checkpoint(tmp_path / "odd", hidden_size=48, intermediate_size=80, head_dim=12)
    with pytest.raises(DcaHubError, match="use quantization='8bit'"):
        load(str(odd), quantization="4bit", device="cpu")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 3}, r"do not hold model\.layers\.2"),
        ({"vocab_size": 300}, "hold .* in another shape"),
        ({"num_attention_heads": "four"}, "num_attention_heads"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
    ],
)
def test_weights_of_another_config_are_refused(changes, words, source, tmp_path):
    """transformers fills what is missing with random numbers."""
    other = shutil.copytree(source, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(DcaHubError, match=words) as error:
        load(str(other))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["quark", "cuda:99", "cuda:x"])
def test_a_device_that_is_not_there_is_said(device, source):
    with pytest.raises(DcaHubError, match=r"no device|cannot use the device"):
        load(str(source), device=device)


def test_what_cannot_fit_is_refused_before_it_is_loaded(source, monkeypatch):
    monkeypatch.setattr(loading, "free_bytes", lambda device: 10_000_000)
    monkeypatch.setattr(loading, "load_base", lambda *args: pytest.fail("it was loaded"))
    with pytest.raises(DcaHubError, match=r"GB for its weights and .* of cache.*context=\d+"):
        load(str(source), context=1_000_000)
    monkeypatch.setattr(loading, "free_bytes", lambda device: 1000)
    with pytest.raises(DcaHubError, match="use quantization='4bit'"):
        load(str(source))


def test_a_cache_that_does_not_fit_is_told_how_it_would(source, monkeypatch):
    sizes = Architecture.from_config(json.loads((source / "config.json").read_text()))
    weights, per_token = sizes.weights_bytes("float32"), sizes.cache_bytes_per_token("float32")
    free = {"cpu": 10**12, "cuda": int(weights * 1.2) + 100_000 * per_token}
    monkeypatch.setattr(loading, "free_bytes", free.get)
    monkeypatch.setattr(loading, "check_device", lambda device: device)
    monkeypatch.setattr(loading, "load_base", lambda *args: pytest.fail("it was loaded"))

    def refusal(context, **options) -> str:
        with pytest.raises(DcaHubError) as caught:
            load(str(source), device="cuda", dtype="float32", context=context, **options)
        return str(caught.value)

    assert "cache_bits=8" in refusal(150_000) and "offload_cache" not in refusal(150_000), "two of two layers stay"
    assert "cache_bits=8" not in refusal(10**7)
    monkeypatch.setattr(Architecture, "offloaded_bytes_per_token", lambda *args: per_token // 16)
    assert "offload_cache=True" in refusal(1_000_000)
    free["cpu"] = 10 * per_token
    assert "offload_cache" not in refusal(1_000_000)
    assert "of the host's memory, which has 0.0 GB free" in refusal(1_000_000, offload_cache=True)


def test_two_layers_of_an_offloaded_cache_stay_on_the_device():
    sizes = catalogue.find("qwen2.5-7b-instruct").architecture
    whole = sizes.cache_bytes_per_token("bfloat16")
    assert sizes.offloaded_bytes_per_token("bfloat16") == -(-whole * 2 * 17 // (16 * 28))


def test_a_cache_is_offloaded_from_a_gpu_only(source):
    with pytest.raises(DcaHubError, match="cpu is none: leave offload_cache out"):
        load(str(source), device="cpu", offload_cache=True)


def test_no_tokenizer_is_said(tmp_path):
    source = write_checkpoint(tmp_path / "mute", tokenizer=False)
    with pytest.raises(DcaHubError, match="tokenizer"):
        load(str(source))


@pytest.mark.parametrize("name", ["./nothing-here", "no/such/folder", "lama-2-7b"])
def test_a_name_that_leads_nowhere(name):
    with pytest.raises(DcaHubError):
        load(name)


def test_no_network_is_said(monkeypatch):
    import huggingface_hub

    def offline(*args, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(DcaHubError, match="cannot be reached"):
        load("smollm-135m-instruct")


def test_loading_is_told_tensor_by_tensor_and_can_be_given_up(source):
    told = []
    load(str(source), progress=told.append)
    total = told[0].total
    assert [(p.stage, p.done, p.total) for p in told] == [("loading", n, total) for n in range(total)] and total > 10

    class GivenUp(Exception):
        pass

    def give_up(progress):
        if progress.done == 3:
            raise GivenUp

    with pytest.raises(GivenUp):
        load(str(source), progress=give_up)
    told.clear()
    assert load(str(source)).model is not None and not told  # nobody listens any more


def test_what_does_not_fit_is_not_even_fetched(source, monkeypatch):
    monkeypatch.setattr(loading, "_weights_source", lambda *args: pytest.fail("it was fetched"))
    monkeypatch.setattr(loading, "free_bytes", lambda device: 1000)
    with pytest.raises(DcaHubError, match="use quantization='4bit'"):
        loading.fetch(str(source))
    monkeypatch.setattr(loading, "_weights_source", lambda *args: "fetched")
    loading.fetch(str(source), freed=10**9)  # another model goes first


@pytest.mark.parametrize(
    "stored, parts",
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 0.25),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 0.25),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 0.5),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 0.25),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 0.5),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}}, 0.5),
    ],
)
def test_memory_counts_weights_as_they_are_stored(stored, parts):
    config = catalogue.find("qwen2.5-7b-instruct").architecture
    linear = 28 * (2 * 3584 * (3584 + 512) + 3 * 3584 * 18944)
    whole = config.weights_bytes("bfloat16")
    wanted = whole - 2 * linear + 2 * linear * parts
    assert config.weights_bytes("bfloat16", stored_quantization({"quantization_config": stored})) == pytest.approx(
        wanted, rel=0.03
    )
    assert stored_quantization({}) is None and stored_quantization({"quantization_config": {"bits": 1e9}}) is None


def test_weights_quantized_with_a_library_that_is_missing_have_a_sentence(tmp_path):
    source = write_checkpoint(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(DcaHubError, match="are quantized, and the package that reads them is not installed"):
        load(str(source), device="cpu")
    with pytest.raises(DcaHubError, match="quantized already"):
        load(str(source), device="cpu", quantization="4bit")


def test_sparse_chunks_that_do_not_fit_are_refused_before_the_weights_are_loaded(source, monkeypatch):
    monkeypatch.setattr("dca_hub.loading.load_base", lambda *_, **__: pytest.fail("the weights were loaded"))
    with pytest.raises(DcaHubError, match="chunks of a multiple of 128 tokens, and chunk_size - local_size is 20"):
        load(str(source), sparse=True)


def test_sparse_reading_is_a_choice_where_it_can_be_right_and_quicker(source, monkeypatch):
    demo, many = load("demo"), 40_000
    assert demo.why_not_sparse(many) == "needs a GPU with Triton"
    monkeypatch.setattr("dca_hub.loading.without_triton", lambda device: None)
    assert demo.why_not_sparse(many) is None and demo.why_not_sparse(32_768) is None
    assert demo.why_not_sparse(32_767) == "is for texts of 32,768 tokens and more"
    assert "chunks of a multiple of 128 tokens, and this model's have 20" in load(str(source)).why_not_sparse(many)
    assert load("demo", dca=False).why_not_sparse(many) == "is for Dual Chunk Attention"


@torch.no_grad()
def test_a_model_that_reads_sparsely_shares_the_weights_and_the_pace(monkeypatch):
    from support.offering import offer_sparse

    offer_sparse(monkeypatch, 512)
    demo = load("demo")
    sparse = demo.with_sparse(True)
    assert demo.sparse is None and sparse.sparse.least_keys == 512 and sparse.pace is demo.pace
    assert {p.data_ptr() for p in sparse.model.parameters()} == {p.data_ptr() for p in demo.model.parameters()}
    assert sparse.with_sparse(True) is sparse and sparse.with_sparse(False).sparse is None
    assert load("demo", dca=False).with_sparse(True).sparse is None
    short, long = ids(400), ids(1500)
    assert torch.equal(sparse.model(short).logits, demo.model(short).logits)
    assert not torch.equal(sparse.model(long).logits, demo.model(long).logits)
    with sparse.model.watch_sparse_attention() as watch:
        sparse.model(long)
    assert 0 < watch.density < 1, "blocks are left out"

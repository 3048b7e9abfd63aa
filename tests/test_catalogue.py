"""The catalogue: its files, its arithmetic, its complaints, and the command that prints it."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from dca_hub import catalogue
from dca_hub.catalogue import entries, find
from dca_hub.cli import models
from dca_hub.errors import DcaHubError
from dca_hub.families import FAMILIES
from dca_hub.memory import Architecture, dtype_bytes
from dca_hub.modeling.dual_chunk_config import config_from_geometry
from dca_hub.sizes import default_sizes, reach_of_entry, sizes_source
from support.tiny_models import tiny_config, tiny_model

NAMES = [entry.name for entry in entries()]

# The numbers of parameters that the models' own repositories state.
TOTALS = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.2-1b-instruct": 1_235_814_400,
    "llama-3.2-3b-instruct": 3_212_749_824,
    "codellama-7b": 6_738_546_688,
    "tinyllama-1.1b-chat": 1_100_048_384,
    "smollm-135m-instruct": 134_515_008,
    "smollm2-360m-instruct": 361_821_120,
    "smollm2-1.7b-instruct": 1_711_376_384,
    "mistral-7b-v0.2": 7_241_732_096,
    "mistral-7b-instruct-v0.3": 7_248_023_552,
    "mixtral-8x7b-instruct": 46_702_792_704,
    "qwen1.5-7b-chat": 7_721_324_544,
    "qwen1.5-14b-chat": 14_167_290_880,
    "qwen2.5-0.5b-instruct": 494_032_768,
    "qwen2.5-7b-instruct-1m": 7_615_616_512,
    "qwen2.5-14b-instruct": 14_770_033_664,
    "qwen2.5-32b-instruct": 32_763_876_352,
    "qwen2.5-coder-0.5b-instruct": 494_032_768,
    "qwen2.5-coder-1.5b-instruct": 1_543_714_304,
    "qwen2.5-coder-7b-instruct": 7_615_616_512,
    "qwen2.5-coder-14b-instruct": 14_770_033_664,
    "qwen2.5-coder-32b-instruct": 32_763_876_352,
    "qwen3-4b-instruct-2507": 4_022_468_096,
    "qwen3-30b-a3b-instruct-2507": 30_532_122_624,
    "qwen3-235b-a22b-instruct-2507": 235_093_634_560,
    "mistral-nemo-instruct-2407": 12_247_782_400,
    "qwen2.5-14b-instruct-1m": 14_770_033_664,
    "qwen3-0.6b": 596_049_920,
    "llama-3.3-70b-instruct": 70_553_706_496,
    "qwen2.5-3b-instruct": 3_085_938_688,
    "qwen2.5-72b-instruct": 72_706_203_648,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
}

# The table of the authors' README: its model and window, its extended context, and the entries that the row is about.
AUTHORS_TABLE = [
    ("Llama-2-7b-hf (4k)", "32k", ["llama-2-7b"]),
    ("Llama-2-13b-hf (4k )", "32k", ["llama-2-13b"]),
    ("Llama-2-70b-hf (4k)", "128k", ["llama-2-70b"]),
    ("Meta-Llama-3-8B (8k)", "96k", ["llama-3-8b"]),
    ("Meta-Llama-3-70B (8k)", "200k+", ["llama-3-70b"]),
    ("Together's LLaMA-2-7b-32k", "200k", ["together-llama-2-7b-32k"]),
    ("Llama-2-7b-chat-hf (4k)", "32k", ["llama-2-7b-chat"]),
    ("Llama-2-13b-chat-hf (4k)", "32k", ["llama-2-13b-chat"]),
    ("Llama-2-70b-chat-hf (4k)", "128k", ["llama-2-70b-chat"]),
    ("Meta-Llama-3-8B-Instruct (8k)", "96k", ["llama-3-8b-instruct"]),
    ("Meta-Llama-3-70B-Instruct (8k)", "200k+", ["llama-3-70b-instruct"]),
    ("Vicuna-1.5-7b-16k", "200k", ["vicuna-1.5-7b-16k"]),
    ("Vicuna-1.5-13b-16k", "200k", ["vicuna-1.5-13b-16k"]),
    (
        "Mixtral 8x7b & Mistral 7b",
        "200k+",
        ["mixtral-8x7b", "mixtral-8x7b-instruct", "mistral-7b-v0.2", "mistral-7b-instruct-v0.2"],
    ),
    ("Qwen1.5 中文", "200k", ["qwen1.5-7b-chat", "qwen1.5-14b-chat"]),
]


def plain_config(entry):
    """A transformers config built from the entry's numbers alone."""
    architecture = entry.architecture
    settings = {
        name: getattr(architecture, name)
        for name in (
            *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
            *("num_key_value_heads", "head_dim", "max_position_embeddings", "tie_word_embeddings"),
        )
    }
    if architecture.num_experts:
        settings |= {
            "num_local_experts" if entry.family in ("mixtral", "gpt_oss") else "num_experts": architecture.num_experts,
            "num_experts_per_tok": architecture.num_experts_per_tok,
            "moe_intermediate_size": architecture.moe_intermediate_size,
            "shared_expert_intermediate_size": architecture.shared_expert_intermediate_size,
        }
    full, linear = architecture.full_layers, architecture.linear_layers
    if architecture.windowed_layers:
        settings |= {"sliding_window": architecture.sliding_window}
        settings |= {"layer_types": ["sliding_attention"] * architecture.windowed_layers + ["full_attention"] * full}
    if linear:
        settings |= {f"linear_{name}": value for name, value in vars(linear).items() if name != "count"}
        settings |= {"layer_types": ["linear_attention"] * linear.count + ["full_attention"] * full}
    return AutoConfig.for_model(entry.family, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_entry_is_sound(name):
    entry = find(name)
    assert reach_of_entry(entry) > entry.trained
    if "authors' patch" in entry.dca.source:
        assert (entry.dca.chunk_size, entry.dca.local_size) == default_sizes(entry.trained, entry.family)
        assert entry.dca.source == sizes_source(entry.family)
        assert entry.geometry.chunk_length % 128 == 0
    assert entry.notes.endswith(".") and "\n" not in entry.notes
    assert all(reach.tokens > entry.trained and reach.evidence for reach in entry.reach)
    architecture = entry.architecture
    assert architecture.full_layers > 0
    assert architecture.sliding_window is None or architecture.windowed_layers, "a window in every layer rules DCA out"
    assert (architecture.sliding_window or 0) <= entry.trained


@pytest.mark.parametrize("name, total", TOTALS.items())
def test_parameters_match_the_published_totals(name, total):
    assert find(name).parameters == total


@pytest.mark.parametrize("name", NAMES)
def test_parameters_match_the_model_that_transformers_builds(name):
    entry = find(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(plain_config(entry))
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_memory_of_every_packaged_family_is_that_of_the_model_itself(family):
    model = tiny_model(family)
    read = Architecture.from_config(model.config.to_dict())
    assert read.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_experts_of_glm_are_counted_beside_its_dense_layers():
    shape = {"num_hidden_layers": 4, "first_k_dense_replace": 1, "n_routed_experts": 8, "n_shared_experts": 2}
    model = tiny_model("glm4_moe", **shape, attention_bias=True, use_qk_norm=True)
    read = Architecture.from_config(model.config.to_dict())
    assert read.parameters == sum(parameter.numel() for parameter in model.parameters())
    linear = [p for name, p in model.named_parameters() if p.dim() > 1 and "embed" not in name and "head" not in name]
    assert read.weights_bytes("bf16") - read.weights_bytes("bf16", 0.5) == sum(p.numel() for p in linear) * 1.5


def test_a_family_without_tiny_sizes_is_told_what_to_add():
    with pytest.raises(KeyError, match=r"_OWN of tests/support/tiny_models.py lacks 'gpt2': add the sizes"):
        tiny_config("gpt2")


def test_the_catalogue_takes_every_packaged_family(tmp_path):
    text = (Path(catalogue.__file__).parents[1] / "configs" / "llama-2-7b.yaml").read_text()
    for family in FAMILIES:
        (tmp_path / "llama-2-7b.yaml").write_text(text.replace("family: llama", f"family: {family}"))
        assert catalogue.read_file(tmp_path / "llama-2-7b.yaml").family == family


def test_untied_qwen3_counts_its_head():
    assert find("qwen3-0.6b").architecture.vocab_size * 1024 + find("qwen3-0.6b").parameters == 751_632_384


@pytest.mark.parametrize("row, stated, names", AUTHORS_TABLE, ids=[row for row, _, _ in AUTHORS_TABLE])
def test_authors_table(row, stated, names):
    tokens = {"32k": 32_768, "96k": 98_304, "128k": 131_072, "200k": 200_000, "200k+": 200_000}[stated]
    window = re.search(r"\((\d+)k", row)
    for name in names:
        entry = find(name)
        reach = entry.longest_reach
        assert (reach.tokens, reach.stated, reach.by) == (tokens, stated, "DCA's authors")
        assert reach_of_entry(entry) == tokens
        assert window is None or entry.trained == int(window[1]) * 1024


def test_authors_table_is_theirs(shared):
    text = (shared / "reference" / "chunkllama-readme.txt").read_text(encoding="utf-8")
    table = text[text.index("Supported Models | Extended ctx") : text.index("- Deploy your own demo")]
    theirs = [tuple(cell.strip() for cell in line.split("|")[:2]) for line in table.splitlines()]
    theirs = [(row, stated) for row, stated in theirs if re.match(r"\d+k", stated)]
    assert theirs == [(row, stated) for row, stated, _ in AUTHORS_TABLE]


def test_models_that_publish_their_own_sizes():
    for name in ("qwen2.5-7b-instruct-1m", "qwen2.5-14b-instruct-1m"):
        entry = find(name)
        assert config_from_geometry(entry.geometry) == {
            "chunk_size": 262_144,
            "local_size": 8_192,
            "original_max_position_embeddings": 262_144,
        }
        assert entry.architecture.max_position_embeddings == 1_010_000


def test_trained_length_is_not_always_max_position_embeddings():
    for name in ("vicuna-1.5-7b-16k", "vicuna-1.5-13b-16k"):
        entry = find(name)
        assert entry.trained == 4 * entry.architecture.max_position_embeddings == 16_384
        assert entry.architecture.rope_scaling.factor == 4
    assert find("together-llama-2-7b-32k").architecture.rope_scaling.factor == 8


def test_demo_comes_with_the_package():
    entry = find("demo")
    assert entries()[0] == entry and entry.is_local and not entry.gated
    config = Path(entry.source, "config.json")
    if not config.is_file():
        pytest.skip("the demo model is not in this checkout")
    assert Architecture.from_config(json.loads(config.read_text())) == entry.architecture


def test_find():
    assert find("LLAMA-2-7B") == find("meta-llama/llama-2-7b-HF") == find("llama-2-7b")
    assert catalogue.get("nobody/nothing") is None
    with pytest.raises(DcaHubError, match=r"did you mean .*llama-2-7b"):
        find("llama2-7b")
    with pytest.raises(DcaHubError, match=r"did you mean .*qwen3-8b"):
        find("Qwen/Qwen3-8BB")
    with pytest.raises(DcaHubError, match="dca_hub models"):
        find("zzz")


def test_importing_the_catalogue_leaves_torch_alone():
    code = "import sys; from dca_hub import catalogue; catalogue.entries(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


class TestMemory:
    def test_bytes(self):
        entry = find("llama-2-7b")
        assert entry.weights_bytes("bfloat16") == 2 * 6_738_415_616 == entry.weights_bytes(torch.float16)
        assert entry.cache_bytes_per_token("bf16") == 2 * 32 * 32 * 128 * 2
        assert find("mistral-7b-v0.2").cache_bytes_per_token("fp16") * 4 == entry.cache_bytes_per_token("fp16")
        assert dtype_bytes("fp32") == 4 and dtype_bytes(torch.float64) == 8

    def test_quantized(self):
        entry = find("llama-2-7b")
        linear = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
        rest = 2 * (6_738_415_616 - linear)
        assert entry.weights_bytes("fp16", "4bit") == rest + linear * (0.5 + 1 / 64 + 1 / 4096)
        assert entry.weights_bytes("fp16", "8bit") == rest + linear + 4 * 32 * (5 * 4096 + 2 * 11008)

    def test_fused_experts_stay_as_they_are(self):
        mixtral = find("mixtral-8x7b")
        saved = mixtral.weights_bytes("bf16") - mixtral.weights_bytes("bf16", "4bit")
        assert 0 < saved < 32 * 2 * 2 * 4096 * (4096 + 1024)

    def test_only_layers_that_see_everything_fill_the_cache(self):
        every, third = find("gpt-oss-20b"), find("qwen3-next-80b-a3b-instruct")
        assert every.cache_bytes_per_token("bf16") == 2 * 12 * 8 * 64 * 2
        assert third.cache_bytes_per_token("bf16") == 2 * 12 * 2 * 256 * 2

    def test_layers_are_counted_as_config_json_tells_them(self):
        shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
        gemma = shape | {"model_type": "gemma3_text", "num_hidden_layers": 18, "sliding_window": 512}
        read = Architecture.from_config(gemma | {"sliding_window_pattern": 6})
        assert (read.windowed_layers, read.full_layers, read.tie_word_embeddings) == (15, 3, True)
        sizes = {"num_key_heads": 2, "num_value_heads": 4, "key_head_dim": 8, "value_head_dim": 8, "conv_kernel_dim": 4}
        linear = {f"linear_{name}": value for name, value in sizes.items()}
        read = Architecture.from_config(shape | linear | {"model_type": "qwen3_next", "num_hidden_layers": 8})
        assert (read.linear_layers.count, read.full_layers) == (6, 2)
        text = shape | linear | {"model_type": "qwen3_5_text", "num_hidden_layers": 8}
        assert Architecture.from_config({"model_type": "qwen3_5", "text_config": text}).full_layers == 2
        with pytest.raises(ValueError, match="num_hidden_layers must exceed"):
            Architecture(**vars(read) | {"num_hidden_layers": 6})

    def test_unknown_words(self):
        with pytest.raises(DcaHubError, match="float8"):
            dtype_bytes("float8")
        with pytest.raises(DcaHubError, match="3bit"):
            find("llama-2-7b").weights_bytes("bf16", "3bit")

    @pytest.mark.parametrize("name", NAMES)
    def test_from_config(self, name):
        entry = find(name)
        raw = plain_config(entry).to_dict()
        if not entry.architecture.windowed_layers:
            raw |= {"sliding_window": None}
        read = Architecture.from_config(raw)
        assert read.parameters == entry.parameters
        assert read.cache_bytes_per_token("bf16") == entry.cache_bytes_per_token("bf16")

    def test_from_config_reads_rope_and_windows(self):
        config = {"model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64}
        config |= {"num_hidden_layers": 1, "num_attention_heads": 4}
        read = Architecture.from_config(config | {"rope_scaling": {"type": "linear", "factor": 8}, "rope_theta": 5e5})
        assert (read.rope_scaling.rope_type, read.rope_scaling.factor, read.rope_theta) == ("linear", 8.0, 5e5)
        assert (read.num_key_value_heads, read.head_dim, read.sliding_window) == (4, 8, None)
        assert Architecture.from_config(config | {"model_type": "mistral"}).sliding_window == 4096
        assert (
            Architecture.from_config(config | {"model_type": "mistral", "sliding_window": None}).sliding_window is None
        )
        assert Architecture.from_config(config | {"model_type": "qwen2", "sliding_window": 8}).sliding_window is None
        with pytest.raises(DcaHubError, match="vocab_size"):
            Architecture.from_config({key: value for key, value in config.items() if key != "vocab_size"})


class TestSizes:
    @pytest.mark.parametrize("family", ["llama", "mistral", "mixtral", "qwen3", "qwen3_moe", "phi3"])
    @pytest.mark.parametrize("trained", [2048, 4096, 8192, 16_384, 32_768, 32_384])
    def test_llama_patch(self, family, trained):
        assert default_sizes(trained, family) == (3 * trained // 4, trained // 8)

    @pytest.mark.parametrize("trained", [4096, 32_768, 32_384])
    def test_qwen_patch(self, trained):
        assert default_sizes(trained, "qwen2") == (3 * trained // 4, trained // 16)

    def test_golden_case(self):
        assert default_sizes(64, "llama") == (48, 8)

    def test_any_length_gives_whole_numbers(self):
        for trained in range(16, 3000, 7):
            for family in ("llama", "qwen2"):
                chunk_size, local_size = default_sizes(trained, family)
                assert isinstance(chunk_size, int) and isinstance(local_size, int)
                assert 1 <= local_size < chunk_size < trained

    def test_why_not_32384(self):
        for length, aligned in ((32_768, True), (32_384, False)):
            chunk_size, local_size = default_sizes(length, "mistral")
            assert ((chunk_size - local_size) % 128 == 0) is aligned

    @pytest.mark.parametrize("trained", [0, -4096, 15, 4096.0, True, "4096", None])
    def test_refusals(self, trained):
        with pytest.raises(DcaHubError, match="whole number"):
            default_sizes(trained, "llama")


class TestBadFiles:
    GOOD = Path(catalogue.__file__).parents[1] / "configs" / "llama-3.1-8b.yaml"

    def write(self, folder, change, name=GOOD.name):
        text = self.GOOD.read_text(encoding="utf-8")
        assert change(text) != text, "the test changes nothing"
        path = folder / name
        path.write_text(change(text), encoding="utf-8")
        return path

    @pytest.mark.parametrize(
        "old, new, complaint",
        [
            ("gated: true", "gated: true\ncolour: red", "unknown key colour"),
            ("gated: true\n", "", "the key gated is missing"),
            ("gated: true", "gated: probably", "gated must be true or false, not 'probably'"),
            ("gated: true", "gated: true\ngated: false", "'gated' appears twice"),
            ("trained: 131072", "trained: 128k", "trained must be a whole number, not '128k'"),
            ("trained: 131072", "trained: true", "trained must be a whole number, not True"),
            ("trained: 131072", "trained: 65536", "dca: chunk_size .* must not exceed"),
            ("  local_size: 16384\n", "", "the key dca.local_size is missing"),
            (
                "  local_size: 16384",
                "  local_size: 98304",
                "dca: local_size .* must be smaller than chunk_size",
            ),
            ("family: llama", "family: gpt2", "family must be one of llama, mistral"),
            ("license: llama3.1", "license: gpl", "license must be one of apache-2.0"),
            ("languages: [en", "languages: [5", r"languages\[0\] must be text"),
            ("    factor: 8.0", "    factor: eight", "architecture.rope_scaling.factor must be a number"),
            ("rope_scaling:", "rope_scalling:", "unknown key architecture.rope_scalling"),
            ("num_key_value_heads: 8", "num_key_value_heads: 7", "architecture.num_attention_heads must be a multiple"),
            ("name: llama", "name: Llama", "name must be lower-case"),
            ("base: meta-llama/", "base: ", "base must be a Hub id"),
            ("name: llama-3.1-8b", "name: llama-3.1-9b", "the key name must match the name of the file, llama-3.1-8b"),
            ("dca:\n", "dca: [\n", "is not valid YAML, line"),
            ("gated: true", "gated: true\n? [a, b]\n: c", "is not valid YAML, line"),
        ],
    )
    def test_names_file_and_key(self, tmp_path, old, new, complaint):
        with pytest.raises(DcaHubError, match=complaint) as caught:
            catalogue.read_file(self.write(tmp_path, lambda text: text.replace(old, new, 1)))
        assert str(caught.value).startswith("llama-3.1-8b.yaml")

    def test_not_a_mapping(self, tmp_path):
        with pytest.raises(DcaHubError, match="must be a mapping"):
            catalogue.read_file(self.write(tmp_path, lambda text: "just words"))

    def test_not_a_file(self, tmp_path):
        with pytest.raises(DcaHubError, match=r"gone.yaml cannot be read"):
            catalogue.read_file(tmp_path / "gone.yaml")

    def test_two_files_of_one_base(self, tmp_path):
        (tmp_path / self.GOOD.name).write_text(self.GOOD.read_text(encoding="utf-8"), encoding="utf-8")
        self.write(tmp_path, lambda text: text.replace("name: llama-3.1-8b", "name: twin"), name="twin.yaml")
        with pytest.raises(DcaHubError, match=r"twin.yaml: the key base repeats meta-llama/Llama-3.1-8B"):
            catalogue.read_folder(tmp_path)


class TestCommand:
    def run(self, *arguments):
        parser = argparse.ArgumentParser()
        models.add(parser.add_subparsers())
        args = parser.parse_args(["models", *arguments])
        return args.run(args)

    def test_table(self, capsys):
        assert self.run() == 0
        lines = capsys.readouterr().out.splitlines()
        assert re.split(r"  +", lines[0])[:2] == ["name", "base"]
        assert [line.split()[0] for line in lines[1 : len(NAMES) + 1]] == NAMES
        line = next(line for line in lines if line.startswith("llama-2-70b "))
        assert re.split(r"  +", line)[2:] == [
            *("4,096", "128k", "DCA's authors", "llama2", "yes", "138.0 GB", "327.7 MB"),
        ]
        assert all(len(line) <= 160 for line in lines)

    def test_json(self, capsys):
        assert self.run("--json") == 0
        listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert list(listed) == NAMES
        row = listed["llama-3-8b"]
        assert (row["trained"], row["reach"], row["measured_by"]) == (8192, 98_304, "DCA's authors")
        assert (row["weights_bytes"], row["cache_bytes_per_token"]) == (2 * 8_030_261_248, 131_072)
        assert (row["chunk_size"], row["local_size"], row["gated"]) == (6144, 1024, True)
        assert listed["tinyllama-1.1b-chat"]["reach"] is None

    def test_one_model(self, capsys):
        assert self.run("Qwen/Qwen2.5-7B-Instruct-1M", "demo") == 0
        out = capsys.readouterr().out
        assert "C = 262,144, w = 8,192, chunks of 253,952" in out
        assert "published config" in out and "dca_hub/demo/model" in out and "llama-2-7b" not in out

    def test_unknown_model(self):
        with pytest.raises(DcaHubError, match="did you mean"):
            self.run("llama-2-8b")

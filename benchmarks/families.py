"""The table of docs/models.md: what Dual Chunk Attention makes of every causal language model type of transformers.

    python -m benchmarks.families                 # prints the table
    python -m benchmarks.families --write         # puts it into docs/models.md
    python -m benchmarks.families --check         # fails where docs/models.md says otherwise
    python -m benchmarks.families --only gemma2   # one type, with what went wrong

Every type gets a tiny random model in float64, and `dca_hub.extend` makes its DCA model. What comes out is held to
the base model up to the chunk; beyond it to an explicit reference that shares no code with the implementation: the
base model's own attention modules are run at the three positions that the definition (arXiv 2402.17463) gives
to queries, and every pair of query and key takes its score from the run that is its relation. Whether a layer has a
window or rotary positions is seen in what it does, not in its config. Then decoding against one call, and a padded row
against the row alone.
"""

import argparse
import copy
import inspect
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING, AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from dca_hub import DcaHubError, extend
from dca_hub.families import FAMILIES

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "models.md"
MARKS = "<!-- families: begin -->", "<!-- families: end -->"
C, W, L = 24, 8, 64
S = C - W
LENGTH, VOCABULARY = 60, 97
LARGEST = 4_000_000  # parameters of a model that is built
TOLERANCE = 2e-5  # of the largest logit, in float64; rotary tables are float32 in transformers
IN_STEPS = 1e-4  # in steps and with padding: transformers computes linear layers in float32
REFERENCE = "explicit_families"
NOT_COUNTED = "not counted"

# Small sizes, each set where a config has such a key.
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": L,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "sliding_window": 12,
    "attention_chunk_size": 12,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "intermediate_size_mlp": 48,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "block_multiple_of": 8,
    "block_ff_dim": 48,
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_d_ssm": 128,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY,
    "num_kv_shared_layers": 0,
    "laurel_rank": 8,
    "attention_dropout": 0.0,
    "attn_dropout": 0.0,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "rotary_dim": 8,
    "n_embd": 64,
    "n_layer": 4,
    "n_head": 4,
    "n_inner": 48,
    "n_positions": L,
    "use_mamba_kernels": False,
    "use_cache": True,
}
# What single types need besides.
_OWN: dict[str, dict] = {
    "gemma3n_text": {"intermediate_size": [48] * 4, "activation_sparsity_pattern": [0.0] * 4},
    "phi3": {"original_max_position_embeddings": L, "sliding_window": None},
    "mistral": {"sliding_window": None},
    "mixtral": {"sliding_window": None},
    "starcoder2": {"sliding_window": None},
    "ministral": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "phimoe": {"sliding_window": None},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 2},
    "qwen3": {"use_sliding_window": True, "max_window_layers": 2},
    "qwen2_moe": {"sliding_window": 0},
    "qwen3_moe": {"sliding_window": None},
    "smollm3": {"no_rope_layers": [1, 1, 0, 1], "sliding_window": None, "use_sliding_window": False},
    "falcon": {"alibi": False, "new_decoder_architecture": False},
    "ministral3": {"sliding_window": None},
    "doge": {"sliding_window": None},
    "minimax": {"sliding_window": None},
    "dory": {"n_input_layers": 1, "n_recurrent_layers": 2, "n_output_layers": 1},
    "bamba": {"attn_layer_indices": [1, 3]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "deepseek_v4": {"num_key_value_heads": 1},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2, "position_embedding_type": "rope"},
    "llama4_text": {"no_rope_layers": [1, 1, 1, 0]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 2},
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "num_key_value_heads": 4,
        "use_mem_rope": True,
        "n_mamba_heads": 4,
        "mamba_d_state": 16,
        "chunk_size": 16,
    },
    "zaya": {
        "layer_types": ["hybrid", "hybrid_sliding"] * 2,
        "num_experts_per_tok": 1,
        "router_hidden_size": 16,
    },
    "dbrx": {
        "d_model": 64,
        "n_heads": 4,
        "n_layers": 4,
        "max_seq_len": L,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "longcat_flash": {"num_layers": 2, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 32, "zero_expert_num": 2},
    "moshi": {"ffn_dim": 96, "num_codebooks": 2, "audio_vocab_size": 16},
    "cohere_compass_text": {
        "logit_scale": 0.25,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
            for kind in ("sliding_attention", "full_attention")
        },
    },
    "inkling2_text": {
        "layer_types": ["hybrid_sliding", "hybrid"] * 2,
        "sliding_window_size": 12,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 16,
        "unpadded_vocab_size": VOCABULARY,
    },
    "mllama_text_model": {"cross_attention_layers": [2]},
    "phi4_multimodal": {
        "original_max_position_embeddings": L,
        "sliding_window": None,
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "crop_size": 28,
            "image_size": 28,
        },
        "audio_config": {
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_blocks": 2,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "nemo_conv_channels": 16,
        },
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
    },
    "dots3_note_text": {
        "layer_types": ["full_attention", "sliding_attention"] * 2,
        "index_n_heads": 2,
        "index_head_dim": 16,
        "head_dim": 24,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 24,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 24,
        "swa_qk_nope_head_dim": 16,
        "swa_v_head_dim": 16,
        "shared_experts_intermediate_size": 32,
    },
    "blt": {
        "encoder_hash_byte_group_vocab": 50,
        "encoder_hash_byte_group_size": [3],
        "local_attention_window_len": 12,
        "patch_in_forward": False,
        **{
            f"{part}_config": {
                "hidden_size": 64,
                "hidden_size_global": 128,
                "intermediate_size": 48,
                "num_attention_heads": 4,
                "num_hidden_layers": 2,
                "vocab_size": VOCABULARY,
            }
            for part in ("encoder", "decoder", "global", "patcher")
        },
    },
}


# Of weights of one dimension, where those of a model are small and much is made of them.
_SPREAD = {"dory": 0.006}


@dataclass(frozen=True)
class Row:
    """What one model type comes to. `outcome` is served, nothing to change, refused or not built; `checks` are the four
    comparisons, as differences relative to the largest logit."""

    model_type: str
    outcome: str
    words: str
    checks: tuple[tuple[str, float], ...] = ()

    @property
    def is_right(self) -> bool:
        bounds = (TOLERANCE, TOLERANCE, IN_STEPS, IN_STEPS)
        return all(difference <= bound for (_, difference), bound in zip(self.checks, bounds))


def model_types() -> list[str]:
    """The types whose models may be causal text models with rotary positions: one for each class that transformers
    lists for causal language models, under the type of its text model where that is listed too. Classes for conditional
    generation read images or sound, and are left to the text model in them. Whether there are rotary positions is seen
    in the model that is built (`has_rotary`)."""
    found = []
    for model_type in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        source, model_class = _source(model_type), _model_class(model_type)
        if source is None or not re.search("rotary", source, re.IGNORECASE):
            continue
        config_class = text_config_class(model_type)
        if hasattr(config_class, "add_cross_attention"):
            continue  # an encoder, which is causal only when told so
        text_type = config_class.model_type
        has_own_type = text_type != model_type and text_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        if "ForConditionalGeneration" not in model_class.__name__ and not has_own_type:
            found.append(model_type)
    return found


def text_config_class(model_type: str) -> type:
    """The config class of the model of a type, or of the text model in it."""
    return getattr(_model_class(model_type), "config_class", None) or CONFIG_MAPPING[model_type]


def has_rotary(model: nn.Module) -> bool:
    """Whether any module of a model, not of another one in the same file, rotates."""
    rotates = re.compile(r"apply_rotary\w*\(|self\.rotary_emb")
    return any(rotates.search(inspect.getsource(type(m))) for m in model.modules() if _is_own(m))


def _is_own(module: nn.Module) -> bool:
    return type(module).__module__.startswith("transformers.models.")


def _model_class(model_type: str) -> type | None:
    names = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    name = names if isinstance(names, str) else names[0]
    found = getattr(transformers, name, None)
    return found if isinstance(found, type) and hasattr(found, "forward") else None


def _source(model_type: str) -> str | None:
    try:
        return inspect.getsource(sys.modules[_model_class(model_type).__module__])
    except (AttributeError, KeyError, ImportError, OSError, TypeError):
        return None


def build(model_type: str):
    """A tiny random model of a type, float64, eager; weights are large enough that a wrong rotation shows."""
    config_class, model_class = text_config_class(model_type), _model_class(model_type)
    keys = set(inspect.signature(config_class.__init__).parameters) | set(vars(config_class()))
    keys |= {name for base in config_class.__mro__ for name in getattr(base, "__annotations__", {})}
    layer_types = getattr(config_class(), "layer_types", None)
    settings = {name: value for name, value in _SIZES.items() if name in keys}
    kinds = list(dict.fromkeys(layer_types or ()))
    if kinds and "layer_types" in keys:
        settings["layer_types"] = (kinds * 4)[:4]
    settings |= _OWN.get(config_class.model_type, {})
    if "qk_rope_head_dim" in settings:
        head_dim = _OWN.get(config_class.model_type, {}).get("head_dim", settings["qk_rope_head_dim"])
        settings |= {"head_dim": head_dim, "num_key_value_heads": 4}
    config = config_class(**settings)
    with torch.device("meta"):
        size = sum(weight.numel() for weight in model_class(copy.deepcopy(config)).parameters())
    if size > LARGEST:
        raise ValueError(f"it has {size:,} parameters at the least sizes known here")
    torch.manual_seed(0)
    model = model_class._from_config(config, attn_implementation="eager", **_experts(model_class)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            spread = 0.2 if weight.dim() > 1 else _SPREAD.get(model_type, 0.3)
            drawn = torch.randn(weight.shape, generator=generator) * spread
            weight.copy_(weight.float() + drawn if weight.dim() == 1 else drawn)
    return model.double()


def _experts(model_class: type) -> dict[str, str]:
    """The experts' readable implementation, where there are any: others have no float64."""
    return {"experts_implementation": "eager"} if model_class._can_set_experts_implementation() else {}


def tokens(length: int, seed: int = 3) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(seed))


class _Captured(Exception):
    def __init__(self, query):
        self.query = query


def _reference_forward(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """Eager attention, whose scores come, in layers with rotary positions that see everything, from three runs."""
    stage = module.__dict__.get("_explicit")
    if stage == "query":
        raise _Captured(query)
    heads, keys = query.shape[1], key.shape[2]
    key, value = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (key, value))
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    score = query @ key.mT * scaling
    if isinstance(stage, tuple):
        chunk = torch.arange(keys) // S
        apart = chunk[:, None] - chunk[None, :]
        successive, inter = (q @ key.mT * scaling for q in stage)
        score = torch.where(apart == 0, score, torch.where(apart == 1, successive, inter))
    if kwargs.get("softcap") is not None:
        score = kwargs["softcap"] * torch.tanh(score / kwargs["softcap"])
    score = score + attention_mask
    if kwargs.get("s_aux") is not None:
        score = torch.cat([score, kwargs["s_aux"].view(1, -1, 1, 1).expand(*score.shape[:3], 1)], -1)
    weights = torch.softmax(score, dim=-1)[..., :keys]
    return (weights @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(REFERENCE, _reference_forward)
AttentionMaskInterface.register(REFERENCE, eager_mask)


def _see(module, args, kwargs, rotary_at):
    """Makes an attention module ready for its run: at the definition's positions where it sees all and rotates."""
    names = list(inspect.signature(type(module).forward).parameters)[1:]
    kwargs = {**dict(zip(names, args)), **kwargs}
    mask, given = kwargs.get("attention_mask"), kwargs.get("position_embeddings")
    module.__dict__["_explicit"] = None
    mask = mask.get("causal") if isinstance(mask, dict) else mask
    sees_all = mask is not None and bool((mask[0, 0, -1] == 0).all())
    if given is None or not sees_all:
        return (), kwargs

    def query_at(positions):
        module.__dict__["_explicit"] = "query"
        try:
            type(module).forward(module, **{**kwargs, "position_embeddings": rotary_at(given, positions)})
        except _Captured as captured:
            return captured.query
        raise AssertionError("the module did not reach its attention")

    at = torch.arange(LENGTH)[None]
    own, moved = query_at(at), query_at(at + 3)
    module.__dict__["_explicit"] = None
    if torch.equal(own, moved):
        return (), kwargs  # no rotary positions
    successive, inter = query_at((at % S + S).clamp(max=C)), query_at(torch.full_like(at, C))
    module.__dict__["_explicit"] = (successive, inter)
    return (), {**kwargs, "position_embeddings": rotary_at(given, at % S)}


@torch.no_grad()
def reference(model, ids: torch.Tensor) -> torch.Tensor:
    """The logits of Dual Chunk Attention by its definition, by a plain model."""
    tables = []

    def rotary_at(given, positions):
        """Of the tables that the model made in this call, the one given, at other positions."""
        rotary, x, extra, _ = next(one for one in tables if _same(one[-1], given))
        return rotary(x, positions, *extra)

    def note(rotary, args, kwargs, out):
        values = [*args, *(v for k, v in kwargs.items() if k != "position_ids")]
        extra = tuple(v for v in values[1:] if isinstance(v, str))
        tables.append((rotary, values[0], extra, out))

    taking = [m for m in model.modules() if m is not model and _takes_positions(m)]
    modules = [m for m in taking if not any(_takes_positions(c) for c in m.modules() if c is not m)]
    see = lambda module, args, kwargs: _see(module, args, kwargs, rotary_at)
    hooks = [module.register_forward_pre_hook(see, with_kwargs=True) for module in modules]
    rotaries = [m for m in model.modules() if "position_ids" in inspect.signature(type(m).forward).parameters]
    hooks += [m.register_forward_hook(note, with_kwargs=True) for m in rotaries if not list(m.children())]
    model.config._attn_implementation = REFERENCE
    try:
        return model(ids, use_cache=False).logits
    finally:
        model.config._attn_implementation = "eager"
        for hook in hooks:
            hook.remove()
        for module in modules:
            module.__dict__.pop("_explicit", None)


def _same(a, b) -> bool:
    return all(x is y for x, y in zip(a, b)) if isinstance(a, tuple) else a is b


def _takes_positions(module: nn.Module) -> bool:
    return "position_embeddings" in inspect.signature(type(module).forward).parameters


def _relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@torch.no_grad()
def _in_pieces(model, ids: torch.Tensor) -> torch.Tensor:
    """A prompt, a second one that goes on in the middle of a chunk, single tokens across a border, and the rest."""
    cache, out = None, []
    ends = [21, 46, 47, 48, 49, 50, LENGTH]
    name = "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"
    for start, end in zip([0, *ends], ends):
        step = model(ids[:, start:end], use_cache=True, **({} if cache is None else {name: cache}))
        cache = getattr(step, "cache", None) or step.past_key_values
        out.append(step.logits)
    return torch.cat(out, dim=1)


@torch.no_grad()
def _padded(model, ids: torch.Tensor) -> torch.Tensor:
    """The row beside a longer one, behind padding on its left."""
    short = ids[:, : LENGTH - 7]
    batch = torch.cat([torch.nn.functional.pad(short, (7, 0)), ids.flip(-1)])
    mask = torch.ones_like(batch)
    mask[0, :7] = 0
    return model(batch, attention_mask=mask, use_cache=False).logits[:1, 7:]


@torch.no_grad()
def _pads_wrongly(model, ids: torch.Tensor) -> bool:
    """Whether a row of the base model changes behind padding.

    Not by eager attention: a row of padding alone is NaN in it in float64, and NaN must excuse nothing.
    """
    model.set_attn_implementation("sdpa")
    try:
        whole = model(ids, use_cache=False).logits
        return _relative(_padded(model, ids), whole[:, : LENGTH - 7]) > IN_STEPS
    finally:
        model.set_attn_implementation("eager")


def examine(model_type: str) -> Row:
    """The row of one model type."""
    try:
        model = build(model_type)
    except Exception as error:
        return Row(model_type, "not built", f"{type(error).__name__}: {error}".splitlines()[0])
    if not has_rotary(model):
        return Row(model_type, NOT_COUNTED, "no rotary positions")
    try:
        extended = extend(model, L, chunk_size=C, local_size=W)
    except DcaHubError as error:
        nothing = any(words in str(error) for words in ("nothing for Dual Chunk", "attends through a sliding window"))
        outcome = "nothing to change" if nothing else "refused"
        return Row(model_type, outcome, str(error))
    ids, short = tokens(LENGTH), tokens(S)
    with torch.no_grad():
        whole = extended(ids, use_cache=False).logits
        # Some linear layers of transformers 5.10 begin anew with the second piece of a text, DCA or not.
        continues = _relative(_in_pieces(model, ids), model(ids, use_cache=False).logits) <= IN_STEPS
        padded = _relative(_padded(extended, ids), whole[:, : LENGTH - 7])
        # Some linear layers of transformers 5.10 let padding into their state, DCA or not.
        excused = padded > IN_STEPS and _pads_wrongly(model, ids)
        checks = (
            (
                "base up to the chunk",
                _relative(extended(short, use_cache=False).logits, model(short, use_cache=False).logits),
            ),
            ("reference", _relative(whole, reference(model, ids))),
            ("decoding", _relative(_in_pieces(extended, ids), whole) if continues else 0.0),
            ("padding", 0.0 if excused else padded),
        )
        if _relative(model(ids, use_cache=False).logits, whole) < 1e-3:
            return Row(model_type, "wrong", "the DCA model is the base model beyond the chunk", checks)
    described = extended.dual_chunk_plan.describe()
    if not continues:
        described += f" Not held to decoding: transformers {transformers.__version__} continues the base model wrongly."
    if excused:
        described += f" Not held to padding: transformers {transformers.__version__} pads the base model wrongly."
    return Row(model_type, "served", described, checks)


def examine_safely(model_type: str) -> Row:
    try:
        return examine(model_type)
    except Exception as error:
        return Row(model_type, "wrong", f"{type(error).__name__}: {error}".splitlines()[0])


def table(rows: list[Row]) -> str:
    """The rows in Markdown, under the count of them."""
    count = lambda *outcomes: sum(row.outcome in outcomes for row in rows)
    lines = [
        f"transformers {transformers.__version__} has {len(rows)} causal language model types with rotary positions. "
        f"{count('nothing to change')} need no change. Of the others, {count('served')} are served and "
        f"{count('refused')} are refused."
        + (f" {count('not built')} could not be built at this size." if count("not built") else ""),
        "",
        "| model type | outcome | base to chunk | reference | decoding | padding | layers, or the reason |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{difference:.0e}" for _, difference in row.checks] or [""] * 4
        words = row.words.replace("|", "/")
        lines.append(f"| {row.model_type} | {row.outcome} | {' | '.join(cells)} | {words} |")
    return "\n".join(lines)


def written() -> dict[str, str]:
    """The outcome that the document gives for each model type."""
    inside = DOCUMENT.read_text(encoding="utf-8").split(MARKS[0])[1].split(MARKS[1])[0]
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in inside.splitlines() if line.startswith("| ")]
    return {model_type: outcome for model_type, outcome in cells if model_type != "model type"}


def complaints(rows: list[Row]) -> list[str]:
    """What is wrong in the rows, or against the document: a type it calls served must be, under the transformers that
    wrote the table. Older ones compute some types in code without a way in, and must serve those that are packaged.
    """
    said = written()
    if f"transformers {transformers.__version__} " not in DOCUMENT.read_text(encoding="utf-8"):
        said = {model_type: outcome for model_type, outcome in said.items() if model_type in FAMILIES}
    wrong = [
        f"{row.model_type}: {row.words} {row.checks}" for row in rows if row.outcome == "wrong" or not row.is_right
    ]
    wrong += [
        f"{row.model_type}: the document says served, but it is {row.outcome}: {row.words}"
        for row in rows
        if said.get(row.model_type) == "served" and row.outcome != "served"
    ]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", metavar="TYPE", help="these model types alone")
    parser.add_argument("--write", action="store_true", help="put the table into docs/models.md")
    parser.add_argument(
        "--check", action="store_true", help="fail where a row is wrong or docs/models.md says otherwise"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    types = options.only or model_types()
    rows = []
    for number, model_type in enumerate(types, 1):
        print(f"\r{number} of {len(types)}: {model_type:24}", end="", file=sys.stderr, flush=True)
        row = (examine if options.only else examine_safely)(model_type)
        print(row, file=sys.stderr, flush=True)
        rows += [row] if row.outcome != NOT_COUNTED else []
    print(file=sys.stderr)
    print(table(rows))
    if options.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
        DOCUMENT.write_text(f"{before}{MARKS[0]}\n{table(rows)}\n{MARKS[1]}{after}", encoding="utf-8")
    wrong = complaints(rows) if options.check else []
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Loads a model, by catalogue name, Hub id or folder: the one function that everything else uses.

The weights are loaded once, as the plain base model, from safetensors; its DCA model shares them. No code from the
model's repository is run, a package's own files included: they are the same as the ones here.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from dca_hub import manifest, sources
from dca_hub.catalogue import Entry
from dca_hub.checkpoints import find_weights
from dca_hub.devices import best_device, check_device, free_bytes, is_cuda
from dca_hub.errors import DcaHubError, DoesNotFit, Fix, one_line
from dca_hub.extending import extend
from dca_hub.memory import Architecture, stored_quantization
from dca_hub.modeling.dual_chunk_blocks import BLOCK
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, sparse_from_config
from dca_hub.modeling.dual_chunk_cuda import without_triton
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_selection import HEADS_KEY, VERTICAL_SLASH, SparseAttention
from dca_hub.pace import Pace
from dca_hub.precision import Precision, choose_precision
from dca_hub.pretrained import Quantization, load_base, tensors_told
from dca_hub.progress import OnLoadProgress
from dca_hub.sizes import geometry_of, reach_of
from dca_hub.sources import Source
from dca_hub.tokenization import load_tokenizer

_WORKING_SHARE = 0.05  # of the weights, for activations
_WORTH_LOADING = 256  # tokens
_ASKED = "as asked"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Loaded:
    """A model that is ready: `model` is the DCA model (or the base, if DCA is off), `base` the plain base model that
    shares its weights. `geometry` is None for a base alone. `context` is how many tokens it may be given, and `source`
    the files it came from, with their revision. A token of context takes `cache_bytes_per_token` of the device and, of
    a cache that is offloaded, `host_bytes_per_token` of the host. `precision` says in which dtype it runs, and why;
    `pace` how quickly it reads, and learns that from every text."""

    name: str
    source: Source
    model: PreTrainedModel
    base: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    geometry: DualChunkGeometry | None
    trained: int
    context: int
    cache_bytes_per_token: int
    precision: Precision
    pace: Pace
    cache_bits: int = 16
    offload_cache: bool = False
    host_bytes_per_token: int = 0

    @property
    def entry(self) -> Entry | None:
        return self.source.entry

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def runs_on(self) -> str:
        """The device, the dtype and why this one, in words."""
        return f"{self.device}, {str(self.model.dtype).removeprefix('torch.')} ({self.precision.why})"

    @property
    def sparse(self) -> SparseAttention | None:
        """How it reads long texts sparsely, if it does."""
        return sparse_from_config(self.model.config) if self.geometry else None

    def room(self) -> int:
        """How many tokens of cache free memory holds now: the device's and, where it is offloaded, the host's."""
        fits = free_bytes(str(self.device)) // self.cache_bytes_per_token
        return min(fits, free_bytes("cpu") // self.host_bytes_per_token) if self.host_bytes_per_token else fits

    def why_not_sparse(self, tokens: int) -> str | None:
        """Why it cannot be chosen to read so many tokens sparsely, in words that follow "sparse reading"; None where it
        can."""
        least = SparseAttention().least_keys
        if self.geometry is None:
            return "is for Dual Chunk Attention"
        if tokens < least:
            return f"is for texts of {least:,} tokens and more"
        try:
            SparseAttention().check(self.geometry)
        except ValueError:
            return f"needs chunks of a multiple of {BLOCK} tokens, and this model's have {self.geometry.chunk_length:,}"
        return "needs a GPU with Triton" if without_triton(self.device) else None

    def with_sparse(self, sparse: bool) -> "Loaded":
        """The same model, reading long texts sparsely (in the usual way, where it does not yet) or not. It shares the
        weights and the pace.

        Raises DcaHubError where its chunks cannot be read sparsely.
        """
        if sparse == (self.sparse is not None) or self.geometry is None:
            return self
        return replace(self, model=extend(self.base, **asdict(self.geometry), sparse=sparse))


class KeptAs(NamedTuple):
    """How a cache is kept: the bits of each number, and whether in the host's memory."""

    bits: int = 16
    offload: bool = False


_USUAL = KeptAs()


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes, and that the device has free; and, of a cache that is offloaded, those of the host."""

    weights: int
    cache_per_token: int
    free: int
    device: str
    host_per_token: int = 0
    host_free: int = 0

    def tokens(self) -> int:
        """How many tokens of context fit beside the weights."""
        fits = int(self.free - self.weights * (1 + _WORKING_SHARE)) // self.cache_per_token
        return max(0, min(fits, self.host_free // self.host_per_token) if self.host_per_token else fits)


def load(
    name: str,
    *,
    dca: bool = True,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    quantization: Quantization | None = None,
    context: int | None = None,
    revision: str | None = None,
    sparse: str | float | bool | None = None,
    cache_bits: int = 16,
    offload_cache: bool = False,
    gguf_file: str | None = None,
    progress: OnLoadProgress | None = None,
) -> Loaded:
    """Loads a model and its tokenizer.

    Args:
        name: a catalogue name, a Hub id, or a folder (a package or a plain checkpoint).
        dca: False gives the plain base model alone, for comparison.
        device: "cpu", "cuda", "cuda:1", "mps", "auto" to spread a model over all GPUs, or "tensor-parallel" to share
            each layer among the processes of `torchrun`; by default the best there is.
        dtype: "float32", "bfloat16", "float16"; by default the checkpoint's own, and on a CPU the one that
            `choose_precision` finds fast there.
        quantization: "4bit" or "8bit" weights through bitsandbytes.
        context: the tokens of context that must fit in memory; by default the trained length.
        sparse: read long texts with block-sparse attention, as in `extend`.
        cache_bits: of each number in the caches of `Conversation`: 16, the model's own dtype, or 8.
        offload_cache: keep those caches in the host's memory, but for two layers. For CUDA devices.
        gguf_file: the name of a GGUF file beside others in that folder or repository, whose weights to load.
        progress: told how far it is, every so often; whatever it raises ends the loading and passes through.

    Raises:
        DcaHubError: there is no such model, it cannot be loaded so, or it does not fit in memory.
    """
    if sparse and not dca:
        raise DcaHubError(
            "Sparse attention needs Dual Chunk Attention: load the DCA model, or leave sparse attention out."
        )
    if cache_bits not in (8, 16):
        raise DcaHubError(f"cache_bits must be 8 or 16, not {cache_bits!r}.")
    if gguf_file:
        name, revision = sources.gguf_path(name, gguf_file, revision=revision, progress=progress), None
    kept = KeptAs(cache_bits, offload_cache)
    plan = _plan(name, device, dtype, quantization, revision, progress, kept)
    source, need = plan.source, plan.need
    if sparse:
        _refuse_sparse(plan.geometry)
    if offload_cache and not is_cuda(need.device):
        raise DcaHubError(
            f"A cache is offloaded from a CUDA device, and {need.device} is none", Fix("leave {} out", "offload_cache")
        )
    _refuse_too_large(plan, need, context or plan.geometry.pretraining_length)
    folder = _weights_source(name, source, revision, progress)
    with tensors_told(progress):
        base = load_base(folder, plan.native, need.device, plan.precision.dtype, quantization)
    if sparse == VERTICAL_SLASH:
        _read_heads(base.config, source)
    model = extend(base, **asdict(plan.geometry), sparse=sparse) if dca else base
    return Loaded(
        name=source.entry.name if source.entry else name,
        source=source,
        model=model,
        base=base,
        tokenizer=load_tokenizer(source.folder),
        geometry=plan.geometry if dca else None,
        trained=plan.geometry.pretraining_length,
        context=reach_of(source, plan.geometry),
        cache_bytes_per_token=need.cache_per_token,
        host_bytes_per_token=need.host_per_token,
        cache_bits=cache_bits,
        offload_cache=offload_cache,
        precision=plan.precision,
        pace=Pace(Architecture.from_config(source.config)),
    )


def fetch(
    name: str,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    quantization: Quantization | None = None,
    freed: int = 0,
    progress: OnLoadProgress | None = None,
) -> None:
    """Brings everything that `load` of the same arguments needs onto this machine, and loads nothing.

    freed: bytes that will be free by then besides what is now, such as those of a model that goes first.

    Raises DcaHubError as `load` does; before the weights are fetched if they would not fit.
    """
    plan = _plan(name, device, dtype, quantization, None, progress)
    _refuse_too_large(plan, replace(plan.need, free=plan.need.free + freed), plan.geometry.pretraining_length)
    _weights_source(name, plan.source, None, progress)


@dataclass(frozen=True)
class _Plan:
    """What will be loaded, before its weights are here. `need.device` is where it goes."""

    source: Source
    native: PreTrainedConfig
    geometry: DualChunkGeometry
    precision: Precision
    need: Need
    kept: KeptAs


def _plan(name, device, dtype, quantization, revision, progress, kept: KeptAs = _USUAL) -> _Plan:
    source = sources.resolve(name, weights=False, revision=revision, progress=progress)
    native, device = _native_config(source), check_device(device or best_device())
    precision = _pick_precision(native, dtype, device)
    need = memory_need(source, precision.dtype, quantization, device, kept)
    return _Plan(source, native, geometry_of(source).geometry, precision, need, kept)


def memory_need(
    source: Source, dtype: torch.dtype, quantization: Quantization | None, device: str, kept: KeptAs = _USUAL
) -> Need:
    """What a model will take, by its configuration alone, and what the device has free, in bytes."""
    architecture = Architecture.from_config(source.config)
    weights = architecture.weights_bytes(dtype, quantization or stored_quantization(source.config))
    return _with_cache(Need(weights, 0, free_bytes(device), device), architecture, dtype, kept)


def _with_cache(need: Need, architecture: Architecture, dtype: torch.dtype, kept: KeptAs) -> Need:
    per_token = architecture.cache_bytes_per_token(dtype, kept.bits)
    if not kept.offload:
        return replace(need, cache_per_token=per_token, host_per_token=0, host_free=0)
    here = architecture.offloaded_bytes_per_token(dtype, kept.bits)
    return replace(need, cache_per_token=here, host_per_token=per_token, host_free=free_bytes("cpu"))


def _read_heads(config: PreTrainedConfig, source: Source) -> None:
    """Puts a checkpoint's `sparse_attention_config.json` into its config, where that does not have it."""
    settings = getattr(config, CONFIG_KEY, None) or {}
    path = source.folder / f"{HEADS_KEY}.json"
    if HEADS_KEY in settings or not path.is_file():
        return
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DcaHubError(f"{path.name} cannot be read: {one_line(error)}") from None
    setattr(config, CONFIG_KEY, {**settings, HEADS_KEY: given})


def _refuse_sparse(geometry: DualChunkGeometry) -> None:
    """Before the weights are fetched and loaded."""
    try:
        SparseAttention().check(geometry)
    except ValueError as error:
        raise DcaHubError(str(error)) from None


def _refuse_too_large(plan: _Plan, need: Need, context: int) -> None:
    """`need` is the plan's, or as it will be when something else is gone."""
    source = plan.source
    if _fits(need, context):
        return
    fixes, fits = _kept_otherwise(plan, need, context), need.tokens()
    if fits >= _WORTH_LOADING:
        fixes = [Fix(f"{fits:,} tokens would fit, give {{}}", "context", fits), *fixes]
    else:
        if stored_quantization(source.config) is None:
            fixes = [*fixes, Fix("use {}", "quantization", "4bit")]
        fixes = [*fixes, "use a smaller model or a machine with more memory"]
    there = f", and {_gb(context * need.host_per_token)} of the host's memory, which has {_gb(need.host_free)} free"
    raise DoesNotFit(
        f"{source.folder.name if source.base is None else source.base} needs {_gb(need.weights)} for its weights and "
        f"{_gb(context * need.cache_per_token)} for {context:,} tokens of cache, and {need.device} has "
        f"{_gb(need.free)} free" + (there if need.host_per_token else ""),
        *fixes,
        tokens=fits if fits >= _WORTH_LOADING else 0,
    )


def _fits(need: Need, context: int) -> bool:
    here = need.weights + int(need.weights * _WORKING_SHARE) + context * need.cache_per_token
    return here <= need.free and context * need.host_per_token <= need.host_free


def _kept_otherwise(plan: _Plan, need: Need, context: int) -> list[Fix]:
    """The ways to keep the cache that would make it fit."""
    architecture, kept = Architecture.from_config(plan.source.config), plan.kept
    ways = []
    if kept.bits == 16:
        ways.append((kept._replace(bits=8), Fix("use {}", "cache_bits", 8)))
    if not kept.offload and is_cuda(need.device):
        ways.append((kept._replace(offload=True), Fix("use {}", "offload_cache", True)))
    return [fix for way, fix in ways if _fits(_with_cache(need, architecture, plan.precision.dtype, way), context)]


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _native_config(source: Source):
    """The base model's own configuration, with nothing of DCA in it but the sizes."""
    kept = {k: v for k, v in source.config.items() if k not in ("auto_map", "attn_implementation")}
    try:
        return AutoConfig.for_model(**kept)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise DcaHubError(
            f"config.json of {source.folder.name!r} describes a model that transformers does not know: "
            f"{one_line(error)}"
        ) from None


def _pick_precision(native, dtype: str | torch.dtype | None, device: str) -> Precision:
    if isinstance(dtype, torch.dtype):
        return Precision(dtype, _ASKED)
    if dtype not in (None, "auto"):
        if dtype not in _DTYPES:
            raise DcaHubError(f"Unknown dtype {dtype!r}: use {', '.join(_DTYPES)} or auto.")
        return Precision(_DTYPES[dtype], _ASKED)
    stated = getattr(native, "dtype", None) or torch.float32
    stated = _DTYPES.get(stated, torch.float32) if isinstance(stated, str) else stated
    return choose_precision(stated, Architecture.from_config(native.to_dict()).parameters, device)


def _weights_source(name: str, source: Source, revision: str | None, progress: OnLoadProgress | None) -> str:
    """Where the weights are: in the folder or, for a package without weights, with the base that its manifest names."""
    if (source.folder / manifest.NAME).is_file():
        held = manifest.read(source.folder)
        if held.weights == "none":
            if held.base is None:
                raise DcaHubError(
                    f"{source.folder.name!r} holds no weights and names no base model: package it again with its "
                    "weights."
                )
            return str(sources.resolve(held.base, revision=held.revision, progress=progress).folder)
    if source.base is None:
        folder = source.folder
    else:
        folder = sources.resolve(name, revision=revision or source.revision, progress=progress).folder
    find_weights(folder)
    return str(folder)

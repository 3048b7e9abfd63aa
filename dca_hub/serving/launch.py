"""From a model to the command line of vLLM that serves it right: length, pages of the cache, memory."""

import errno
import ipaddress
import json
import math
import os
import socket
from dataclasses import dataclass, field

from dca_hub import sources
from dca_hub.errors import DcaHubError, DoesNotFit, Fix
from dca_hub.memory import GIB, Architecture
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, config_from_geometry
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.sizes import geometry_of, may_change_length, reach_of
from dca_hub.sources import Source
from dca_hub.vllm_plugin.refusals import PAGE_SIZES

_CACHE_SHARE = 0.5  # of the free memory of a machine without GPU

_KEPT = (("cache_bits", 8, "--cache-in-8bit"), ("offload_cache", True, "--offload-cache"))


@dataclass(frozen=True)
class Wanted:
    """What a person asks for. `context` in tokens, `memory` in GiB of KV cache; None leaves the choice here."""

    context: int | None = None
    dtype: str | None = None
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    memory: float | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    name: str | None = None
    further: tuple[str, ...] = ()
    sparse: str | float | bool | None = None
    cache_bits: int = 16
    offload_cache: bool = False

    def options(self) -> set[str]:
        """The names of the further options of vLLM."""
        return {option.partition("=")[0] for option in self.further if option.startswith("--")}

    def kept(self) -> list[tuple[str, int, str]]:
        """The unusual ways to keep a cache that are asked for: argument, value and option."""
        return [way for way in _KEPT if getattr(self, way[0]) == way[1]]

    @property
    def listens(self) -> bool:
        """Whether vLLM will listen at the address: not at a socket file, nor nowhere, as a node that helps another."""
        return not self.options() & {"--uds", "--headless"}


@dataclass(frozen=True)
class Launch:
    """A command to run, with what it needs in the environment, and what a person should know, a sentence each."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def vllm_launch(model: str, source: Source, geometry: DualChunkGeometry, wanted: Wanted, free: int | None) -> Launch:
    """How to serve a model with vLLM.

    Args:
        model: what vLLM is to load, a folder or a Hub id.
        source: the model's configuration, and where it is from.
        geometry: the sizes that its attention is to have.
        free: bytes of free memory on a machine without GPU, None where there are GPUs.

    Raises:
        DcaHubError: the model or the length cannot be served so; the message says what can.
    """
    for option in wanted.options() & {"--host", "--port"}:
        raise DcaHubError(f"{option} of vLLM is set from the option of `serve`", Fix("give {}", option[2:]))
    if wanted.sparse:
        raise DcaHubError(
            "vLLM reads with all of its attention, the server of transformers can read sparsely",
            Fix("give {}", "engine", "transformers"),
            Fix("leave {} out", "sparse"),
        )
    for argument, value, _ in wanted.kept():
        raise DcaHubError(
            "vLLM keeps its cache itself, the server of transformers as this asks",
            Fix("give {}", "engine", "transformers"),
            Fix("leave {} out", argument, value),
        )
    context = wanted.context or reach_of(source, geometry)
    command = ["vllm", "serve", model, "--max-model-len", str(context)]
    command += ["--host", wanted.host, "--port", str(wanted.port)]
    command += ["--served-model-name", wanted.name or served_name(source)]
    overrides = _overrides(source, geometry, context)
    if overrides:
        command += ["--hf-overrides", json.dumps(overrides)]
    if wanted.dtype:
        command += ["--dtype", wanted.dtype]
    for flag, count in (("tensor", wanted.tensor_parallel), ("pipeline", wanted.pipeline_parallel)):
        if count > 1:
            command += [f"--{flag}-parallel-size", str(count)]
    environment, notes = {}, []
    if free is None:
        command += ["--block-size", str(page_size(geometry))]
        if wanted.memory:
            command += ["--kv-cache-memory-bytes", str(int(wanted.memory * GIB))]
    else:
        space, note = _cpu_space(source, context, wanted, free)
        environment, notes = {"VLLM_CPU_KVCACHE_SPACE": str(space)}, [note]
        if wanted.tensor_parallel > 1:
            environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    public = public_note(wanted)
    return Launch((*command, *wanted.further), environment, (*notes, *([public] if public else [])))


def transformers_command(model: str, wanted: Wanted) -> tuple[str, ...]:
    """The `dca-hub serve` that says everything about transformers' server of a model.

    Raises:
        DcaHubError: there is no such model, or the server cannot do what is wanted.
    """
    unfit = {
        "memory": wanted.memory is not None,
        "vllm": bool(wanted.further),
        "tensor_parallel": wanted.tensor_parallel > 1,
        "pipeline_parallel": wanted.pipeline_parallel > 1,
    }
    for argument in (name for name, found in unfit.items() if found):
        raise DcaHubError("transformers' server cannot do this, but vLLM can", Fix("leave {} out", argument))
    source = sources.resolve(model, weights=False)
    context = wanted.context or reach_of(source, geometry_of(source).geometry)
    command = ["dca-hub", "serve", model, "--engine", "transformers", "--name", wanted.name or served_name(source)]
    command += ["--max-context", str(context), *(["--dtype", wanted.dtype] if wanted.dtype else [])]
    if wanted.sparse:
        command += ["--sparse", *([] if wanted.sparse is True else [str(wanted.sparse)])]
    command += [option for *_, option in wanted.kept()]
    return (*command, "--host", wanted.host, "--port", str(wanted.port))


def refuse_port(wanted: Wanted) -> None:
    """Raises DcaHubError where nothing can listen at the address: before a model is loaded for minutes."""
    if wanted.port == 0:
        return
    kind = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    try:
        with socket.socket(kind, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((wanted.host, wanted.port))
    except socket.gaierror:
        raise DcaHubError(
            f"{wanted.host!r} is not an address of this machine", Fix("choose another {}", "host")
        ) from None
    except PermissionError:
        raise DcaHubError(
            f"Port {wanted.port} needs administrator rights on this machine", Fix("choose another {}", "port")
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            problem = f"Port {wanted.port} is in use, perhaps by another server"
            raise DcaHubError(problem, Fix("choose another {}", "port")) from None
        raise DcaHubError(
            f"Nothing can listen at {wanted.host} ({error.strerror})", Fix("choose another {}", "host")
        ) from None


def public_note(wanted: Wanted) -> str | None:
    """What a person should know of an address that others can reach; None where none can, or they need a key."""
    has_key = "--api-key" in wanted.options()
    if _is_loopback(wanted.host) or has_key or os.environ.get("VLLM_API_KEY"):
        return None
    return (
        f"Anyone who can reach {wanted.host}:{wanted.port} over the network can use this server: it asks for no key "
        "(vLLM does with --vllm='--api-key KEY') and encrypts nothing."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def served_name(source: Source) -> str:
    """What clients call a model: its catalogue name, or the name of its repository or folder."""
    if source.entry is not None:
        return source.entry.name
    return source.base or source.folder.name


def page_size(geometry: DualChunkGeometry) -> int:
    """Tokens of a page of the cache on a GPU, such that chunks are made of whole pages.

    Raises:
        DcaHubError: no page that vLLM has divides the chunk length.
    """
    fitting = [page for page in PAGE_SIZES if geometry.chunk_length % page == 0]
    if not fitting:
        raise DcaHubError(
            f"On a GPU the chunk length ({geometry.chunk_length:,} tokens) must be a multiple of {PAGE_SIZES[-1]}, "
            f"better of {PAGE_SIZES[0]}: package the model with other sizes, such as --local-size "
            f"{_nearest_window(geometry)}."
        )
    return fitting[0]


def _nearest_window(geometry: DualChunkGeometry) -> int:
    page = PAGE_SIZES[-1]
    return geometry.chunk_size - max(page, geometry.chunk_length // page * page)


def _overrides(source: Source, geometry: DualChunkGeometry, context: int) -> dict:
    """What config.json does not say yet."""
    overrides = {}
    if source.config.get(CONFIG_KEY) is None:
        overrides[CONFIG_KEY] = config_from_geometry(geometry)
    if may_change_length(source.config) and (source.config.get("max_position_embeddings") or 0) < context:
        overrides["max_position_embeddings"] = context
    return overrides


def _cpu_space(source: Source, context: int, wanted: Wanted, free: int) -> tuple[int, str]:
    """GiB of KV cache for vLLM on a CPU, which takes a whole number of them."""
    stated = wanted.dtype or source.config.get("dtype") or source.config.get("torch_dtype") or "bfloat16"
    dtype = "bfloat16" if stated == "auto" else stated
    per_token = Architecture.from_config(source.config).cache_bytes_per_token(dtype)
    least = math.ceil(per_token * context / GIB)
    room = int(free * _CACHE_SHARE / GIB)
    space = math.ceil(wanted.memory) if wanted.memory else max(least, min(room, 4 * least))
    if space < least or (not wanted.memory and least > free / GIB):
        fits = int((space if wanted.memory else room) * GIB / per_token)
        raise DoesNotFit(
            f"One request of {context:,} tokens takes {per_token * context / GIB:.1f} GiB of KV cache, and there are "
            f"{space if wanted.memory else room} for it",
            Fix("give {}", "context", fits),
            Fix("more {}", "memory"),
            tokens=fits,
        )
    return space, f"{space} GiB of KV cache: {int(space * GIB / per_token):,} tokens, {per_token:,} bytes each."

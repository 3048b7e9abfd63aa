"""A plain base model out of a folder: every weight from the checkpoint, quantized or shared out as asked."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from tqdm.std import tqdm
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from dca_hub.compat import tensor_parallel
from dca_hub.devices import TENSOR_PARALLEL
from dca_hub.errors import DcaHubError, DoesNotFit, Fix, one_line
from dca_hub.families import FAMILIES
from dca_hub.progress import LoadProgress, OnLoadProgress

Quantization = Literal["4bit", "8bit"]
_one_loads_at_a_time = threading.Lock()


def load_base(
    folder: str, native: PreTrainedConfig, device: str, dtype: torch.dtype, quantization: Quantization | None
) -> PreTrainedModel:
    """The model of that configuration with the weights in the folder, ready to run.

    Raises:
        DcaHubError: the weights are not those of the configuration, or cannot be loaded so.
    """
    stored = getattr(native, "quantization_config", None)
    if stored and quantization:
        raise DcaHubError(f"The weights in {Path(folder).name!r} are quantized already: load them as they are.")
    options: dict[str, Any] = {"config": native, "dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    if native.model_type in FAMILIES:
        # PyTorch's attention has no sinks, and transformers refuses it for gpt-oss.
        native._attn_implementation = "eager" if native.model_type == "gpt_oss" else "sdpa"
    if quantization:
        options["quantization_config"] = _quantization_config(quantization, native, dtype, device)
    if device == TENSOR_PARALLEL:
        options |= _tensor_parallel(quantization)
    elif quantization or stored or device == "auto" or device.startswith("cuda"):
        options["device_map"] = "auto" if device == "auto" else {"": device}
    # transformers would fill what does not fit with random numbers when told to, and what is missing in any case.
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, **options)
        model, found = loaded  # with output_loading_info
        _check_whole(folder, found)
        return model.eval() if "device_map" in options or device == TENSOR_PARALLEL else model.to(device).eval()
    except torch.OutOfMemoryError:
        raise DoesNotFit(
            f"The model does not fit on {device}", Fix("use {}", "quantization", "4bit"), "use a smaller model"
        ) from None
    except ImportError as error:  # of the library that the weights were quantized with
        raise DcaHubError(
            f"The weights in {Path(folder).name!r} are quantized, and the package that reads them is not installed "
            f"({one_line(error)}): install it, or use the unquantized checkpoint."
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = re.split(r"[.\n]", str(error).strip())[0]
        raise DcaHubError(f"The model could not be loaded: {reason}.") from None


def _check_whole(folder: str, found: dict[str, Any]) -> None:
    missing = sorted(found["missing_keys"])
    other = sorted(key if isinstance(key, str) else key[0] for key in found["mismatched_keys"])
    if missing or other:
        words = f"do not hold {missing[0]}" if missing else f"hold {other[0]} in another shape"
        raise DcaHubError(
            f"The weights in {Path(folder).name!r} do not match its config.json: they {words}. Download config.json "
            "and weights again, together."
        )


def _tensor_parallel(quantization: Quantization | None) -> dict[str, Any]:
    """What `from_pretrained` takes to share the layers among processes, by the plan of the model's own class."""
    if not torch.distributed.is_initialized():
        raise DcaHubError(
            f"The device {TENSOR_PARALLEL!r} needs several processes: start with torchrun --nproc-per-node N."
        )
    if quantization:
        raise DcaHubError("Quantized weights cannot be sharded over processes", Fix("leave {} out", "quantization"))
    return tensor_parallel()


def _quantization_config(quantization: Quantization, native: PreTrainedConfig, dtype: torch.dtype, device: str):
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise DcaHubError(
            "Quantized weights need bitsandbytes, which is not installed: pip install bitsandbytes."
        ) from None
    from transformers import BitsAndBytesConfig

    if device == "mps":
        raise DcaHubError(
            "bitsandbytes does not run on mps", Fix("leave {} out", "quantization"), Fix("give {}", "device", "cpu")
        )
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    if quantization == "4bit":
        # Without double quantization some CPUs corrupt the weights when they are saved after use.
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=None if device.startswith("cuda") else _unpackable(native),
        )
    raise DcaHubError(f"Unknown quantization {quantization!r}: use 4bit or 8bit.")


def _unpackable(native: PreTrainedConfig) -> list[str] | None:
    """The layers that stay as they are where 4-bit weights run on a CPU, whose kernels take whole blocks only; None
    where transformers' own choice will do."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(native, trust_remote_code=False)
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    head = {name for name, layer in linear.items() if layer is model.get_output_embeddings()}
    odd = {name for name, layer in linear.items() if layer.in_features % 64 or layer.out_features % 32} - head
    if odd and odd == linear.keys() - head:
        raise DcaHubError(
            "4-bit weights on a CPU need layers whose widths are multiples of 64, and this model has none",
            Fix("use {}", "quantization", "8bit"),
            Fix("leave {} out", "quantization"),
        )
    return sorted(odd | head) if odd else None


@contextmanager
def tensors_told(progress: OnLoadProgress | None) -> Iterator[None]:
    """Within it, a model that this thread loads is reported tensor by tensor.

    The library's hook for its progress bars is the one place where it hands control back between tensors. The hook is
    the whole process's: bars of other threads stay what they were, and two loads do not overlap.
    """
    if progress is None:
        yield
        return
    own = threading.get_ident()

    def bar(factory: Callable[..., Any], args: tuple, options: dict[str, Any]) -> Any:
        if threading.get_ident() != own or not args:
            return factory(*args, **options)
        return _Told(args[0], progress)

    with _one_loads_at_a_time:
        before = logging.set_tqdm_hook(bar)
        try:
            yield
        finally:
            logging.set_tqdm_hook(before)


class _Told(tqdm):
    """A bar that is not drawn but told."""

    def __init__(self, items: Iterable, progress: OnLoadProgress):
        super().__init__(items, disable=True)
        self._progress = progress

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self.iterable):
            self._progress(LoadProgress("loading", done, self.total or done + 1))
            yield item

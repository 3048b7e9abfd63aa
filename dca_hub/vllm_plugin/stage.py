"""Tells whoever starts vLLM what it is doing: `dca-hub serve` names a file to write it into, `vllm serve` none."""

import logging
import os
from pathlib import Path

STAGE_VARIABLE = "DCA_HUB_STARTUP_STAGE"
_logger = logging.getLogger("vllm.dca_hub")
_HANGING = (
    "Dual Chunk Attention is in place. Without a GPU, vLLM compiles the model next, which takes about 90 s at a first "
    "start; a line about processes that may be hanging ('No available shared memory broadcast block') means that."
)


def tell(stage: str) -> None:
    """Writes what vLLM is doing; nothing that goes wrong here matters."""
    file = os.environ.get(STAGE_VARIABLE)
    if file and Path(file).is_file():  # it is gone once the server is ready
        try:
            Path(file).write_text(stage, encoding="utf-8")
        except OSError:
            _logger.debug("The stage could not be written.", exc_info=True)


def building(device: str) -> None:
    """The model is being built."""
    tell("loading the weights" + (", then compiling" if device == "cuda" else ""))


def built(device: str, compiles: bool) -> None:
    """The model's layers have their weights and their cache."""
    if device == "cpu" and compiles:
        _logger.info(_HANGING)
        tell("compiling the model, about 90 s at a first start")
    else:
        tell("warming up" + (" and capturing CUDA graphs" if device == "cuda" else ""))

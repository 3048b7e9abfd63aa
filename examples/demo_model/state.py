"""The trainer's state on disk: weights and optimizer as safetensors, the rest as JSON. Nothing is pickled."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from dca_hub.errors import DcaHubError


@dataclass
class Progress:
    """Steps taken and seconds spent."""

    step: int = 0
    seconds: float = 0.0


def save_state(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write atomically: an interrupted save leaves the state before it."""
    tensors = {f"model.{name}": p.detach().contiguous() for name, p in model.named_parameters()}
    for index, kept in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value.contiguous() for key, value in kept.items()}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "trainer.safetensors.new"
    save_file(tensors, temporary, metadata={"progress": json.dumps(asdict(progress))})
    os.replace(temporary, folder / "trainer.safetensors")


def load_state(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Fill model and optimizer. Raises DcaHubError when there is no state in `folder` or it is of another model."""
    file = folder / "trainer.safetensors"
    if not file.is_file():
        raise DcaHubError(f"There is no trainer.safetensors in {folder} to resume from; start without --resume.")
    tensors = load_file(file)
    parameters = dict(model.named_parameters())
    try:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"model.{name}"])
    except (KeyError, RuntimeError) as error:
        raise DcaHubError(
            f"{file} is of a model of another shape; resume with the settings it was made with."
        ) from error
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return _progress(file)


def _progress(file: Path) -> Progress:
    with open(file, "rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return Progress(**json.loads(header["__metadata__"]["progress"]))

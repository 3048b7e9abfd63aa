"""The training of the demo model: plain causal attention, AdamW, one schedule over steps or minutes.

The trainer's state on disk is safetensors, and JSON in their header: nothing is pickled.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from dca_hub.errors import DcaHubError
from examples.demo_model.data import Batches, collate, loader
from examples.demo_model.rows import ANSWER_WEIGHT, RowMaker
from examples.demo_model.sharpness import sharpen

WARMUP_STEPS = 200
HELD = 0.4  # share of the way at the peak rate
FINAL_RATE = 0.02  # of the peak
CHECKED_ROWS = 16  # at a time
KINDS = ("prose", "recall", "key", "quote", "fact")


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


@dataclass(frozen=True)
class Settings:
    steps: int
    minutes: float | None  # the schedule ends after so long if the steps do not end it before
    rate: float
    decay: float
    micro_rows: int
    workers: int
    compile: bool
    save_minutes: float


def make_optimizer(model: torch.nn.Module, rate: float, decay: float, device: torch.device) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=device.type == "cuda")


def rate_at(settings: Settings, progress: Progress) -> float:
    """Warm up, hold for HELD of the way, then a cosine down to FINAL_RATE."""
    done = progress.step / settings.steps
    if settings.minutes:
        done = max(done, progress.seconds / 60 / settings.minutes)
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, (done - HELD) / (1 - HELD)))))
    return settings.rate * min(1.0, (progress.step + 1) / WARMUP_STEPS) * (FINAL_RATE + (1 - FINAL_RATE) * fall)


def weighted_loss(model: torch.nn.Module, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum over tokens [B, T + 1] of the weighted cross-entropy of predicting tokens[:, 1:] (weights [B, T])."""
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    losses = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
    return (losses * weights.flatten()).sum()


class Trainer:
    """Owns the step; `report(progress, loss)` is called after every one of them and may raise to stop."""

    def __init__(self, model, optimizer, batches: Batches, settings: Settings, out: Path, progress: Progress):
        self.model, self.optimizer, self.batches = model, optimizer, batches
        self.settings, self.out, self.progress = settings, out, progress
        self.device = model.device
        self.sharpness = sharpen(model, max(settings.micro_rows, CHECKED_ROWS))
        # TF32 where autocast leaves float32: the rounding is far below that of bf16.
        torch.set_float32_matmul_precision("high")
        self._loss = torch.compile(weighted_loss, dynamic=False) if settings.compile else weighted_loss

    def run(self, report: Callable[[Progress, torch.Tensor], None]) -> None:
        """Train to the end of the budget; the state is on disk afterwards, also when it is interrupted."""
        saved = time.monotonic()
        try:
            clock = time.monotonic()
            for batch in loader(self.batches, self.progress.step, self.settings.workers):
                loss = self._step(*(part.to(self.device, non_blocking=True) for part in batch))
                now = time.monotonic()
                self.progress.step += 1
                self.progress.seconds += now - clock
                clock = now
                self.sharpness.fill_(1.0)
                report(self.progress, loss)
                if self.settings.minutes and self.progress.seconds > 60 * self.settings.minutes:
                    break
                if now - saved > 60 * self.settings.save_minutes:
                    self.save()
                    saved = now
        finally:
            self.save()

    def save(self) -> None:
        save_state(self.out, self.model, self.optimizer, self.progress)

    def _step(self, tokens: torch.Tensor, weights: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.settings, self.progress)
        total, loss = weights.sum().clamp(min=1), torch.zeros((), device=self.device)
        size = self.settings.micro_rows
        for part, part_weights, part_factors in zip(tokens.split(size), weights.split(size), factors.split(size)):
            self.sharpness[: len(part_factors), 0, 0] = part_factors
            with self._autocast():
                part_loss = self._loss(self.model, part, part_weights) / total
            part_loss.backward()
            loss += part_loss.detach()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _autocast(self):
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()


@torch.no_grad()
def check(model: torch.nn.Module, maker: RowMaker, rows: int, seed: int = 7) -> dict[str, float]:
    """Nats per token for prose and recall; for questions the share of answers of which every token comes first."""
    found: dict[str, float] = {}
    model.eval()
    for kind in KINDS:
        rng = np.random.default_rng([seed, len(kind)])
        losses, answers = [], []
        for _ in range(0, rows, CHECKED_ROWS):
            tokens, weights = collate([maker.make(kind, rng) for _ in range(CHECKED_ROWS)])
            loss, right = _score(model, tokens.to(model.device))
            losses.append(loss[weights.to(loss.device) > 0].float().mean().item())
            answers += _answers(right.cpu().numpy(), weights.numpy() == ANSWER_WEIGHT)
        found[kind] = float(np.mean(answers)) if answers else float(np.mean(losses))
    model.train()
    return found


def _score(model: torch.nn.Module, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
    loss = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    return loss, logits.argmax(-1) == tokens[:, 1:]


def _answers(right: np.ndarray, marked: np.ndarray) -> list[bool]:
    """One value per run of marked tokens: were they all right?"""
    found = []
    for row, marks in zip(right, marked):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(np.int8), [0]])))
        found += [bool(row[a:b].all()) for a, b in zip(edges[::2], edges[1::2])]
    return found


class Meter:
    """Counts in steps, or in seconds where the schedule is set in minutes."""

    def __init__(self, settings: Settings, tokens_a_step: int):
        self._by_time = settings.minutes is not None
        total = round(60 * settings.minutes) if self._by_time else settings.steps
        unit = "s" if self._by_time else "step"
        self._bar = tqdm(total=total, unit=unit, mininterval=1, dynamic_ncols=True)
        self._tokens, self._began = tokens_a_step, None

    def step(self, progress: Progress, loss: torch.Tensor) -> None:
        self._bar.update((round(progress.seconds) if self._by_time else progress.step) - self._bar.n)
        if self._began is None:
            self._began = Progress(progress.step, progress.seconds)
        elif progress.step % 20 == 0:
            # Reading the loss waits for the device, hence not at every step.
            speed = self._tokens * (progress.step - self._began.step) / (progress.seconds - self._began.seconds)
            self._bar.set_postfix(step=progress.step, loss=f"{loss.item():.3f}", tokens_s=f"{speed:,.0f}")

    def note(self, values: dict[str, float]) -> None:
        line = {key: round(value, 4) for key, value in values.items()}
        self._bar.write(json.dumps(line), file=sys.stdout)
        sys.stdout.flush()

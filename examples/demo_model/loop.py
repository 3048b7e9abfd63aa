"""The training loop: plain causal attention, AdamW, one schedule over steps or minutes."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from examples.demo_model.checks import CHECKED_ROWS
from examples.demo_model.data import Batches, loader
from examples.demo_model.sharpness import sharpen
from examples.demo_model.state import Progress, save_state

WARMUP_STEPS = 200
HELD = 0.4  # share of the way at the peak rate
FINAL_RATE = 0.02  # of the peak


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
    """Warm up, hold for most of the way, then a cosine down to FINAL_RATE."""
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

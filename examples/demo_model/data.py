"""Batches of training rows: a function of (seed, step), so that a resumed run sees what an uninterrupted one sees."""

import signal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from examples.demo_model import sharpness
from examples.demo_model.rows import RowMaker

# Shares of the kinds of rows: first to form induction, then to learn the tasks without losing the language.
DENSE_MIX = {"dense": 0.75, "prose": 0.25}
MAIN_MIX = {"prose": 0.54, "recall": 0.05, "dense": 0.02, "key": 0.15, "quote": 0.22, "fact": 0.02}


class Batches(Dataset):
    """Batch `step` is tokens [rows, T + 1] int64, weights [rows, T] float32: of predicting tokens[:, 1:], and the
    sharpness [rows] float32 of attention, drawn between `softest` and `sharpest`."""

    def __init__(
        self,
        maker: RowMaker,
        rows: int,
        steps: int,
        seed: int,
        dense_steps: int,
        mix: dict[str, float] = MAIN_MIX,
        softest: float = 1.0,
        sharpest: float = 1.0,
    ):
        self.maker, self.rows, self.steps, self.seed, self.dense_steps = maker, rows, steps, seed, dense_steps
        self.mix, self.softest, self.sharpest = mix, softest, sharpest

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([self.seed, step])
        mix = DENSE_MIX if step < self.dense_steps else self.mix
        shares = np.array(list(mix.values()))
        kinds = [str(kind) for kind in rng.choice(list(mix), self.rows, p=shares / shares.sum())]
        tokens, weights = collate([self.maker.make(kind, rng) for kind in kinds])
        factors = [sharpness.draw(kind, rng, self.softest, self.sharpest) for kind in kinds]
        return tokens, weights, torch.tensor(factors)


def collate(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, weights = zip(*rows)
    return torch.from_numpy(np.stack(tokens)).long(), torch.from_numpy(np.stack(weights)[:, 1:].copy())


def loader(batches: Batches, start: int, workers: int) -> DataLoader:
    """Batches from step `start` on, made in `workers` processes ahead of time (0: in this one)."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, batches.steps),
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        worker_init_fn=_ignore_interrupts,
        pin_memory=torch.cuda.is_available(),
    )


def _ignore_interrupts(_worker: int) -> None:
    # Ctrl-C reaches the whole process group; only the trainer may act on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

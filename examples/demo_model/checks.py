"""What the model in training can do on unseen text, within its window: loss on prose, exact answers by kind."""

import numpy as np
import torch
import torch.nn.functional as F

from examples.demo_model.data import collate
from examples.demo_model.rows import ANSWER_WEIGHT, RowMaker

CHECKED_ROWS = 16  # at a time
KINDS = ("prose", "recall", "key", "quote", "fact")


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

"""Attention logits times a factor of their own for every window in training.

Among 32 times as many tokens, what a head looks for has to stand out by ln 32 more in its logits, and the attention
temperature of DCA multiplies them. A model that has only met factors of 1 in short windows need not do either; the
loss tells it nothing once the right token wins. So windows are drawn with softer and sharper attention.
"""

import math

import numpy as np
import torch
from torch import nn
from transformers import LlamaForCausalLM

PROSE = ("prose", "recall", "dense")
SOFTEST_PROSE = 0.8  # below, prose could not be foretold from what stands near


class SharpenedLinear(nn.Linear):
    """A query projection whose rows are multiplied: rotations are linear, so the logits are too.

    `sharpness` is one buffer of all layers, [rows, 1, 1]; it is not saved.
    """

    sharpness: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) * self.sharpness[: len(input)]


def sharpen(model: LlamaForCausalLM, rows: int) -> torch.Tensor:
    """Replace the query projections of `model` in place; returns the factors, ones, to be filled before each step."""
    factors = torch.ones(rows, 1, 1, device=model.device)
    for layer in model.model.layers:
        plain = layer.self_attn.q_proj
        with torch.device("meta"):
            made = SharpenedLinear(plain.in_features, plain.out_features, bias=False)
        made.weight = plain.weight
        made.register_buffer("sharpness", factors, persistent=False)
        layer.self_attn.q_proj = made
    return factors


def draw(kind: str, rng: np.random.Generator, softest: float, sharpest: float) -> float:
    """The factor of one window; half of the prose has 1, as most of the use will."""
    plain, bend = rng.random(), rng.random()
    if plain < (0.5 if kind in PROSE else 0.25):
        return 1.0
    low = math.log(max(softest, min(SOFTEST_PROSE, 1.0)) if kind in PROSE else softest)
    return math.exp(low + bend * (math.log(sharpest) - low))

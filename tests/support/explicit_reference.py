"""Dual Chunk Attention by its definition alone, in float64 loops, for comparison with whole models.

Nothing here calls the code under test. The table of the definition (arXiv 2402.17463, section 3) is written out pair by
pair; every query and key is rotated once, from scratch, at its absolute placement.
"""

import contextlib
import math

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

NAME = "explicit_reference"


def placements(i: int, j: int, C: int, w: int) -> tuple[int, int]:
    """Where the query at i and the key at j <= i are rotated."""
    s = C - w
    a, b, r = i // s, j // s, i % s
    if b == a:
        return r, j % s
    if b == a - 1:
        return min(r + s, C), j % s
    return C, j % s


def temperature_factor(i: int, L: int, f: float) -> float:
    return 1 + f * math.log((i + 1) / L) if i >= L else 1.0


def rotate(x: torch.Tensor, place: torch.Tensor, inv_freq: torch.Tensor) -> torch.Tensor:
    """x [..., D] at places [...], dimension i paired with i + R / 2; dimensions from R on stay."""
    angle = place.double().unsqueeze(-1) * inv_freq.double()
    cos, sin = angle.cos(), angle.sin()
    half = inv_freq.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)


def explicit_attention(
    q, k, v, inv_freq, C, w, L, *, f=0.0, scaling=None, rope_factor=1.0, plain=False, sinks=None, cap=None
):
    """Unrotated q [B, H, T, D], k and v [B, G, T, D] to the output [B, H, T, D], float64, one query at a time.

    `rope_factor` is what YaRN puts on cosines and sines; `plain` places everything at its absolute position; `sinks`
    [H] are logits without a value, `cap` is a soft cap on the other logits.
    """
    B, H, T, D = q.shape
    k, v = (x.double().repeat_interleave(H // x.shape[1], dim=1) for x in (k, v))
    q = q.double()
    scaling = D**-0.5 if scaling is None else scaling
    out = torch.zeros(B, H, T, v.shape[-1], dtype=torch.float64)
    rotated = 2 * inv_freq.shape[-1]
    rope = torch.ones(D, dtype=torch.float64)
    rope[:rotated] = rope_factor
    for i in range(T):
        pairs = [(i, j) if plain else placements(i, j, C, w) for j in range(i + 1)]
        at_q, at_k = (torch.tensor(column) for column in zip(*pairs))
        turned_q = rotate(q[:, :, i : i + 1].expand(-1, -1, i + 1, -1), at_q, inv_freq) * rope
        turned_k = rotate(k[:, :, : i + 1], at_k, inv_freq) * rope
        logits = (turned_q * turned_k).sum(-1) * scaling * temperature_factor(i, L, f)
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        weights = logits.exp()
        total = weights.sum(-1, keepdim=True) + (0 if sinks is None else sinks.double().exp().view(1, H, 1))
        out[:, :, i] = ((weights / total).unsqueeze(-1) * v[:, :, : i + 1]).sum(-2)
    return out


def inverse_frequencies(config, length: int) -> tuple[torch.Tensor, float]:
    """A model's own frequencies at a length, and the factor on its cosines and sines."""
    rope = config.rope_parameters
    if rope["rope_type"] == "default":
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        exponent = torch.arange(0, size, 2, dtype=torch.float64) / size
        return (1.0 / rope["rope_theta"] ** exponent), 1.0
    inv_freq, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu", seq_len=length)
    return inv_freq.double(), factor


class _NoRotation(nn.Module):
    """cos = 1 and sin = 0, so that queries and keys reach the attention unrotated."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x, position_ids):
        shape = (*position_ids.shape, self.size)
        return torch.ones(shape, dtype=x.dtype), torch.zeros(shape, dtype=x.dtype)


def _explicit_forward(module, query, key, value, attention_mask, scaling=None, explicit=None, **kwargs):
    out = explicit_attention(query, key, value, scaling=scaling, **explicit)
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _explicit_forward)


@contextlib.contextmanager
def _explicit(model):
    """The plain model with its rotation taken out and its attention replaced, for the length of the block."""
    rotary, implementation = model.base_model.rotary_emb, model.config._attn_implementation
    model.base_model.rotary_emb = _NoRotation(2 * rotary.inv_freq.shape[-1])
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.base_model.rotary_emb = rotary
        model.config._attn_implementation = implementation


@torch.no_grad()
def explicit_logits(plain_model, input_ids, geometry, *, dca: bool = True) -> torch.Tensor:
    """The logits [1, T, vocabulary] of a plain model of transformers with its attention replaced by the definition."""
    inv_freq, rope_factor = inverse_frequencies(plain_model.config, input_ids.shape[1])
    explicit = {
        "inv_freq": inv_freq,
        "rope_factor": rope_factor,
        "C": geometry.chunk_size,
        "w": geometry.local_size,
        "L": geometry.pretraining_length,
        "f": geometry.temperature,
        "plain": not dca,
    }
    with _explicit(plain_model):
        return plain_model(input_ids, explicit=explicit, use_cache=False).logits

"""The rotary wrapper of a DCA model: the base model's own frequencies, at positions within the chunk."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from .dual_chunk_geometry import DualChunkGeometry
from .dual_chunk_layers import ONE_TABLE, Plan, Table
from .dual_chunk_rotation import HALF_SPLIT, RotaryLayout
from .dual_chunk_selection import SparseAttention
from .dual_chunk_sparse import SparseWatch


class DualChunkRotary(nn.Module):
    """Rotates queries and keys at `position mod s`, with the cosines and sines of the rotary module it wraps.

    Dynamic NTK scaling picks its frequencies by the length of a document. The lengths come with the positions
    (`with_lengths`), and the wrapped module's memory of earlier lengths is cleared at each call: nothing outlives it.

    Where the plan leaves layers as they are, what the module gives to all of them is at their true positions, and the
    changed ones take theirs from the call (`in_chunk`). `sparse` says how long texts are read; `watch`, while
    it is set, is told of it.
    """

    inner: Any  # the wrapped module, of any family: its tables are attributes of many names

    def __init__(
        self, inner: nn.Module, geometry: DualChunkGeometry, plan: Plan, sparse: SparseAttention | None = None
    ):
        super().__init__()
        self.inner = inner
        self.geometry = geometry
        self.plan = plan
        self.sparse = sparse
        self.watch: SparseWatch | None = None

    @property
    def is_dynamic(self) -> bool:
        return "dynamic" in str(getattr(self.inner, "rope_type", None))

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor, *args, **kwargs):
        """cos and sin for x, [B or 1, Q, R] each; a factor that the model puts on them (YaRN) is in both. Further
        arguments are the wrapped module's own, as the kind of layer."""
        if not self.plan.is_uniform:
            rotated = self.inner(x, position_ids, *args, **kwargs)
        elif self.is_dynamic:
            rotated = self._dynamic(x, position_ids)
        else:
            rotated = self.inner(x, position_ids % self.geometry.chunk_length, *args, **kwargs)
        call = getattr(position_ids, "dual_chunk", None)
        if call is None or not isinstance(rotated, tuple):
            return rotated
        return PositionEmbeddings.of(rotated, call)

    @property
    def layer_types(self) -> list[str]:
        """The kinds of layers that the wrapped module has tables for, which some models ask it."""
        return self.inner.layer_types

    def in_chunk(self, base: nn.Module, positions: torch.Tensor, dtype: torch.dtype, table: Table):
        """What a rotary table of the base model gives for `position mod s`."""
        x = torch.empty(1, dtype=dtype, device=positions.device)
        kind = () if table.kind is None else (table.kind,)
        return self._source(base, table)(x, positions % self.geometry.chunk_length, *kind)

    def _source(self, base: Any, table: Table) -> nn.Module:
        """The module of the base model, in which this one stands, that has a table."""
        return self.inner if table == Table(kind=table.kind) else base.get_submodule(table.module)

    def _dynamic(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        within = position_ids % self.geometry.chunk_length
        lengths = getattr(position_ids, "document_lengths", None)
        if lengths is None:
            lengths = position_ids.max(dim=-1, keepdim=True).values.expand_as(position_ids) + 1
        first, *others = lengths.unique().tolist()
        cos, sin = self._for_length(x, within, first)
        for length in others:
            its_cos, its_sin = self._for_length(x, within, length)
            mine = (lengths == length).to(cos.device).unsqueeze(-1)
            cos, sin = torch.where(mine, its_cos, cos), torch.where(mine, its_sin, sin)
        return cos, sin

    def _for_length(self, x: torch.Tensor, within: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        self._forget()
        # The wrapped module reads the length off the largest position it is given.
        longest = within.new_full((*within.shape[:-1], 1), length - 1)
        cos, sin = self.inner(x, torch.cat([within, longest], dim=-1))
        self._forget()
        return cos[..., :-1, :], sin[..., :-1, :]

    def inverse_frequencies(self, length: int, base: nn.Module | None = None, table: Table = ONE_TABLE) -> torch.Tensor:
        """[R / 2] radians per token, for a document of `length` tokens, by one of the tables of the base model."""
        if not self.is_dynamic:
            found = inverse_frequencies(self._source(base, table), table.kind)
            assert found is not None  # the plan lists tables that are there
            return found
        config, device = self.inner.config, self.inner.inv_freq.device
        if length <= self.inner.original_max_seq_len:
            return self.inner.original_inv_freq.to(device)  # inv_freq may still be that of a longer, plain call
        return ROPE_INIT_FUNCTIONS[self.inner.rope_type](config, device, seq_len=length)[0]

    def _forget(self) -> None:
        self.inner.max_seq_len_cached = self.inner.original_max_seq_len
        self.inner.inv_freq = self.inner.original_inv_freq.to(self.inner.inv_freq.device)


def inverse_frequencies(rotary: Any, kind: str | None = None) -> torch.Tensor | None:
    """[R / 2] radians per token of a rotary module of transformers, for a kind of layer, or None where it has none.
    Modules that hold sines and cosines instead, [positions, R], tell them by those of position 1."""
    name = "inv_freq" if kind is None else f"{kind}_inv_freq"
    if hasattr(rotary, name) or not hasattr(rotary, "embed_positions"):
        return getattr(rotary, name, None)
    sin, cos = rotary.embed_positions[1].float().chunk(2)
    return torch.atan2(sin, cos)


class PositionEmbeddings(tuple):
    """cos and sin, carrying the call to layers that hand on nothing else."""

    dual_chunk: Any  # a DualChunkCall

    @classmethod
    def of(cls, cos_and_sin: tuple, call) -> "PositionEmbeddings":
        made = cls(cos_and_sin)
        made.dual_chunk = call
        return made


def with_lengths(position_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The same positions [B or 1, Q], carrying to the rotary module the length of the document that each is in."""
    position_ids.document_lengths = lengths  # pyright: ignore[reportAttributeAccessIssue]
    return position_ids


@dataclass(frozen=True)
class Frequencies:
    """The inverse frequencies of each document of a call; only dynamic NTK scaling tells them apart.

    `of` gives [R / 2] radians per token for a document of so many tokens; `lengths` has, for each batch row, the length
    that each of its documents goes by; `layout` tells which dimensions they rotate.
    """

    of: Callable[[int], torch.Tensor]
    lengths: list[list[int]]
    layout: RotaryLayout = HALF_SPLIT

    def spread(self, rows: list[list[torch.Tensor]], past: int, queries: int) -> torch.Tensor:
        """The length that each new token goes by, int64 [B, Q]; padding, which nobody sees, gets 1."""
        spread = torch.ones(len(rows), past + queries, dtype=torch.long)
        for row, docs in enumerate(rows):
            for slots, length in zip(docs, self.lengths[row]):
                spread[row, slots] = length
        return spread[:, past:]

    def each(self, rows: list[list[torch.Tensor]], past: int, queries: int) -> torch.Tensor:
        """[R / 2] where every document has the same frequencies, else [B, 1, Q, R / 2]."""
        found = sorted({length for row in self.lengths for length in row}) or [1]
        table = [self.of(length) for length in found]
        if all(one is table[0] or torch.equal(one, table[0]) for one in table):
            return table[0]
        table.append(table[0])  # for padding
        index = torch.full((len(rows), queries), len(found))
        spread = self.spread(rows, past, queries)
        for number, length in enumerate(found):
            index[spread == length] = number
        return torch.stack(table)[index.to(table[0].device)].unsqueeze(1)

"""Dual Chunk Attention as an attention backend of vLLM's V1 engine, on a CPU.

Requests that decode are served together, by vLLM's kernel for single queries or in PyTorch's operations. For others,
vLLM's own attention takes what stands in the first chunk, and `dual_chunk_attention` what comes later.
Shapes: N tokens of a step, H query heads, G key/value heads, D head size.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from vllm.v1.attention.backends.cpu_attn import (
    CPUAttentionBackend,
    CPUAttentionBackendImpl,
    CPUAttentionMetadata,
    CPUAttentionMetadataBuilder,
)

from dca_hub.modeling.dual_chunk_attention import dual_chunk_attention
from dca_hub.modeling.dual_chunk_backends import choose_backend
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import HALF_SPLIT, RelationRotations
from dca_hub.vllm_plugin.cpu.decode import decode_attention
from dca_hub.vllm_plugin.cpu.decode_kernel import attend_by_kernel, plan_sequences, refuse_kernel
from dca_hub.vllm_plugin.cpu.decode_plan import plan_decode
from dca_hub.vllm_plugin.cpu.first_chunk import attend_first_chunk, plan_first_chunk
from dca_hub.vllm_plugin.cpu.pages import PageShape, SlotIndices, read, slot_indices, write
from dca_hub.vllm_plugin.cpu.turn import Turn, turn
from dca_hub.vllm_plugin.layer import DualChunkLayer
from dca_hub.vllm_plugin.model_rotary import geometry_and_table
from dca_hub.vllm_plugin.rotary_table import RotaryTable, StepRotations
from dca_hub.vllm_plugin.spans import Span, positions, spans
from dca_hub.vllm_plugin.step import layer_metadata


class DualChunkCPUBackend(CPUAttentionBackend):
    @staticmethod
    def get_impl_cls():
        return DualChunkCPUImpl

    @staticmethod
    def get_builder_cls():
        return DualChunkCPUMetadataBuilder


@dataclass(frozen=True)
class PrefillRequest:
    """A request with several queries in the step: its `length` in tokens and its `pages` in order, the rows of its
    queries in the first chunk and `plain` for them, those of the `later` ones, and the rotations of these from their
    position in the chunk on."""

    length: int
    pages: torch.Tensor
    first: slice
    plain: CPUAttentionMetadata | None
    later: slice
    rotations: RelationRotations


@dataclass(frozen=True)
class DecodeBatch:
    """The requests that decode: the `rows` of their queries, or None where they are the step's, one after another; and
    `attend`, which takes these queries as they arrive, the cache and the softmax scale."""

    rows: torch.Tensor | None
    attend: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


@dataclass(frozen=True)
class DualChunkStep:
    """What all layers share in one step. `in_chunk` takes keys and queries [N, ...] to their position in the chunk, or
    is None where all stand in their first chunk."""

    geometry: DualChunkGeometry
    written: SlotIndices
    in_chunk: Turn | None
    prefills: tuple[PrefillRequest, ...]
    decodes: DecodeBatch | None


@dataclass
class DualChunkCPUMetadata(CPUAttentionMetadata):
    step: DualChunkStep | None = None


class DualChunkCPUMetadataBuilder(CPUAttentionMetadataBuilder):
    def __init__(self, kv_cache_spec, layer_names, vllm_config, device):
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        size = kv_cache_spec.head_size
        self.geometry, self.table = geometry_and_table(vllm_config, layer_names, size, device)

    def build(self, common_prefix_len, common_attn_metadata, fast_build=False):
        plain = super().build(common_prefix_len, common_attn_metadata, fast_build)
        spec = self.kv_cache_spec
        page = PageShape(spec.block_size, spec.num_kv_heads, spec.head_size, spec.dtype)
        step = step_of(plain, page, self.num_heads, self.isa, self.table, self.geometry)
        return DualChunkCPUMetadata(**{field.name: getattr(plain, field.name) for field in fields(plain)}, step=step)


def step_of(
    plain: CPUAttentionMetadata, page: PageShape, heads: int, isa: str, rotary: RotaryTable, geometry: DualChunkGeometry
) -> DualChunkStep:
    """What the layers need of a step beyond the metadata of plain attention. `heads` are those of queries, and `isa`
    names the instructions of vLLM's own kernel."""
    step = spans(plain.query_start_loc.tolist(), plain.seq_lens.tolist())
    at = positions(step, plain.num_actual_tokens)
    rotations = rotary.step(at, geometry)
    moved = bool((at >= geometry.chunk_length).any())
    decoding = [span for span in step if span.stop - span.start == 1]
    plan = partial(plan_first_chunk, page=page, heads=heads, isa=isa, chunk_length=geometry.chunk_length)
    return DualChunkStep(
        geometry,
        slot_indices(plain.slot_mapping[: plain.num_actual_tokens], page),
        turn(*rotations.in_chunk, page.size) if moved else None,
        tuple(
            _prefill(span, plan(span), plain.block_table, page, rotations)
            for span in step
            if span.stop - span.start > 1
        ),
        _decodes(decoding, plain.num_actual_tokens, plain.block_table, page, rotations, geometry),
    )


def _prefill(
    span: Span, plain: CPUAttentionMetadata | None, table: torch.Tensor, page: PageShape, rotations: StepRotations
) -> PrefillRequest:
    middle = span.start if plain is None else span.start + plain.num_actual_tokens
    first, later = slice(span.start, middle), slice(middle, span.stop)
    (cos, sin), (c, s) = ([x[..., later, :] for x in pair] for pair in (rotations.by_relation, rotations.in_chunk))
    # From the position in the chunk on: the whole rotation, less the one that has led there.
    cos, sin = cos * c + sin * s, sin * c - cos * s
    pages = table[span.request, : -(-span.length // page.tokens)].long()
    return PrefillRequest(span.length, pages, first, plain, later, _scaled(cos, sin, rotations.factor_of(later)))


def _decodes(
    step: list[Span],
    tokens: int,
    table: torch.Tensor,
    page: PageShape,
    rotations: StepRotations,
    geometry: DualChunkGeometry,
) -> DecodeBatch | None:
    if not step:
        return None
    rows = torch.tensor([span.start for span in step])
    placed = _scaled(*(x[:, rows] for x in rotations.by_relation), rotations.factor_of(rows))
    if refuse_kernel(page, step) is None:
        by_kernel = plan_sequences(step, table, page, geometry.chunk_length, placed)
        attend = partial(attend_by_kernel, plan=by_kernel)
    else:
        plan = plan_decode(step, table, page, geometry.chunk_length)
        attend = partial(decode_attention, plan=plan, rotations=placed)
    return DecodeBatch(None if len(rows) == tokens else rows, attend)


def _scaled(cos: torch.Tensor, sin: torch.Tensor, factor: torch.Tensor | None) -> RelationRotations:
    if factor is not None:
        cos, sin = cos * factor, sin * factor
    return RelationRotations(cos, sin, factor, HALF_SPLIT)


class DualChunkCPUImpl(DualChunkLayer, CPUAttentionBackendImpl):
    def do_kv_cache_update(self, layer, key, value, kv_cache, slot_mapping):
        """Writes keys [N, G, D], rotated to their position in the chunk, and values to the cache; the slots of the
        step are in its metadata already."""
        metadata = layer_metadata(layer.layer_name)
        if metadata is None:
            return
        step, tokens = metadata.step, metadata.num_actual_tokens
        key, value = key[:tokens], value[:tokens]
        if step.in_chunk is not None:
            key = step.in_chunk(key)
        write(_as_pages(kv_cache), step.written, key, value)

    def attend(self, layer, query, key, value, kv_cache, attn_metadata, output):
        if attn_metadata is None:  # warming up
            return output
        step, cache = attn_metadata.step, _as_pages(kv_cache)
        if step.decodes is not None:
            rows, tokens = step.decodes.rows, attn_metadata.num_actual_tokens
            asked = query[:tokens] if rows is None else query.index_select(0, rows)
            attended = step.decodes.attend(asked, cache, scaling=self.scale)
            if rows is None:
                output[:tokens] = attended
            else:
                output.index_copy_(0, rows, attended.to(output.dtype))
        for request in step.prefills:
            keys, values = read(cache, request.pages, request.length)
            if request.plain is not None:
                rows = request.first
                attend_first_chunk(self, layer, query[rows], keys, values, request.plain, cache.shape[3], output[rows])
            rows = request.later
            if rows.start == rows.stop:
                continue
            rotated = query[rows] if step.in_chunk is None else step.in_chunk.rows(rows)(query[rows])
            rotated = rotated.transpose(0, 1).unsqueeze(0)
            attended = dual_chunk_attention(
                rotated,
                keys,
                values,
                geometry=step.geometry,
                scaling=self.scale,
                rotations=request.rotations,
                backend=choose_backend(rotated, keys)[0].name,
            )
            output[rows] = attended[0].transpose(0, 1)
        return output


def _as_pages(kv_cache: torch.Tensor) -> torch.Tensor:
    """The memory of a layer's cache as `paged` has it; the order of keys within a page that the stock kernel has is
    good for that kernel alone."""
    pages, heads, size, twice = kv_cache.shape
    return kv_cache.view(pages, heads, 2, size, twice // 2)

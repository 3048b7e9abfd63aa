"""Dual Chunk Attention as an attention backend of vLLM's V1 engine, on a CPU.

The keys and values of a request are read where they lie in the paged cache, and `dual_chunk_attention` does the rest.
Shapes: N tokens of a step, H query heads, G key/value heads, D head size.
"""

from dataclasses import dataclass, fields

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
from dca_hub.modeling.dual_chunk_rotation import HALF_SPLIT, RelationRotations, rotate
from dca_hub.vllm_plugin.cpu.decode import decode_attention
from dca_hub.vllm_plugin.cpu.decode_plan import DecodePlan, plan_decode
from dca_hub.vllm_plugin.cpu.pages import PageShape, SlotIndices, read, slot_indices, write
from dca_hub.vllm_plugin.layer import DualChunkLayer
from dca_hub.vllm_plugin.model_rotary import geometry_and_table
from dca_hub.vllm_plugin.rotary_table import CosSin, RotaryTable, StepRotations
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
    """A request with several queries in the step, its `pages` in order, and the rotations of its queries from their
    position in the chunk on."""

    span: Span
    pages: torch.Tensor
    rotations: RelationRotations


@dataclass(frozen=True)
class DecodeBatch:
    """The requests that decode: the `rows` of their queries, their pages, and the rotations of their queries as they
    arrive."""

    rows: torch.Tensor
    plan: DecodePlan
    rotations: RelationRotations


@dataclass(frozen=True)
class DualChunkStep:
    """What all layers share in one step. `in_chunk` takes keys and queries to their position in the chunk, cos and sin
    [N, 1, R / 2], or is None where all stand in their first chunk."""

    geometry: DualChunkGeometry
    written: SlotIndices
    in_chunk: CosSin | None
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
        step = step_of(plain, page, self.table, self.geometry)
        return DualChunkCPUMetadata(**{field.name: getattr(plain, field.name) for field in fields(plain)}, step=step)


def step_of(
    plain: CPUAttentionMetadata, page: PageShape, rotary: RotaryTable, geometry: DualChunkGeometry
) -> DualChunkStep:
    """What the layers need of a step beyond the metadata of plain attention."""
    step = spans(plain.query_start_loc.tolist(), plain.seq_lens.tolist())
    at = positions(step, plain.num_actual_tokens)
    rotations = rotary.step(at, geometry)
    moved = bool((at >= geometry.chunk_length).any())
    return DualChunkStep(
        geometry,
        slot_indices(plain.slot_mapping[: plain.num_actual_tokens], page),
        (rotations.in_chunk[0].unsqueeze(1), rotations.in_chunk[1].unsqueeze(1)) if moved else None,
        _prefills([span for span in step if span.stop - span.start > 1], plain.block_table, page, rotations),
        _decodes([span for span in step if span.stop - span.start == 1], plain.block_table, page, rotations, geometry),
    )


def _prefills(
    step: list[Span], table: torch.Tensor, page: PageShape, rotations: StepRotations
) -> tuple[PrefillRequest, ...]:
    found = []
    for span in step:
        rows = slice(span.start, span.stop)
        (cos, sin), (c, s) = ([x[..., rows, :] for x in pair] for pair in (rotations.by_relation, rotations.in_chunk))
        # From the position in the chunk on: the whole rotation, less the one that has led there.
        cos, sin = cos * c + sin * s, sin * c - cos * s
        pages = table[span.request, : -(-span.length // page.tokens)].long()
        found.append(PrefillRequest(span, pages, _scaled(cos, sin, rotations.factor_of(rows))))
    return tuple(found)


def _decodes(
    step: list[Span], table: torch.Tensor, page: PageShape, rotations: StepRotations, geometry: DualChunkGeometry
) -> DecodeBatch | None:
    if not step:
        return None
    rows = torch.tensor([span.start for span in step])
    cos, sin = (x[:, rows] for x in rotations.by_relation)
    plan = plan_decode(step, table, page, geometry.chunk_length)
    return DecodeBatch(rows, plan, _scaled(cos, sin, rotations.factor_of(rows)))


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
            key = rotate(key, *step.in_chunk)
        write(_as_pages(kv_cache), step.written, key, value)

    def attend(self, layer, query, key, value, kv_cache, attn_metadata, output):
        if attn_metadata is None:  # warming up
            return output
        step, cache = attn_metadata.step, _as_pages(kv_cache)
        if step.decodes is not None:
            rows, plan, rotations = step.decodes.rows, step.decodes.plan, step.decodes.rotations
            attended = decode_attention(query.index_select(0, rows), cache, plan, rotations, self.scale)
            output.index_copy_(0, rows, attended)
        for request in step.prefills:
            rows = slice(request.span.start, request.span.stop)
            rotated = query[rows] if step.in_chunk is None else rotate(query[rows], *(x[rows] for x in step.in_chunk))
            rotated = rotated.transpose(0, 1).unsqueeze(0)
            keys, values = read(cache, request.pages, request.span.length)
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

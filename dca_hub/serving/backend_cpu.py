"""Dual Chunk Attention as an attention backend of vLLM's V1 engine, on a CPU.

The keys and values of a request are read where they lie in the paged cache, and `dual_chunk_attention` does the rest.
Shapes: N tokens of a step, H query heads, G key/value heads, D head size.
"""

from dataclasses import dataclass, fields

import torch
from vllm.forward_context import get_forward_context
from vllm.v1.attention.backends.cpu_attn import (
    CPUAttentionBackend,
    CPUAttentionBackendImpl,
    CPUAttentionMetadata,
    CPUAttentionMetadataBuilder,
)

from dca_hub.modeling.dual_chunk_attention import QueryTurns, dual_chunk_attention, turn
from dca_hub.serving.paged import Run, attend_last, read, runs, write
from dca_hub.serving.refusals import refuse_layer
from dca_hub.serving.rotation import RotaryTable, Turn, model_table
from dca_hub.serving.settings import geometry_of
from dca_hub.serving.spans import Span, positions, spans


class DualChunkCPUBackend(CPUAttentionBackend):
    @staticmethod
    def get_impl_cls():
        return DualChunkCPUImpl

    @staticmethod
    def get_builder_cls():
        return DualChunkCPUMetadataBuilder


@dataclass
class DualChunkCPUMetadata(CPUAttentionMetadata):
    """What all layers share in one step. `runs` are the pages of each span's request. `place` takes rotated keys and
    queries to their place in the chunk, cos and sin [N, 1, R / 2], or is None where all stand in their first chunk;
    `turns` are the queries' further turns."""

    spans: tuple[Span, ...] = ()
    runs: tuple[tuple[Run, ...], ...] = ()
    place: Turn | None = None
    turns: QueryTurns | None = None
    geometry: object = None


class DualChunkCPUMetadataBuilder(CPUAttentionMetadataBuilder):
    def __init__(self, kv_cache_spec, layer_names, vllm_config, device):
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self.geometry = geometry_of(vllm_config)
        self.table = model_table(vllm_config.model_config, kv_cache_spec.head_size, device, self.geometry)

    def build(self, common_prefix_len, common_attn_metadata, fast_build=False):
        plain = super().build(common_prefix_len, common_attn_metadata, fast_build)
        step = spans(plain.query_start_loc.tolist(), plain.seq_lens.tolist())
        place, turns = step_turns(self.table, positions(step, plain.num_actual_tokens), self.geometry)
        shared = {field.name: getattr(plain, field.name) for field in fields(plain)}
        return DualChunkCPUMetadata(
            **shared,
            spans=step,
            runs=span_runs(step, plain.block_table, self.block_size),
            place=place,
            turns=turns,
            geometry=self.geometry,
        )


def span_runs(step: tuple[Span, ...], table: torch.Tensor, page_size: int) -> tuple[tuple[Run, ...], ...]:
    """The pages that hold the tokens of each span's request, by the table [requests, pages]."""
    return tuple(runs(table[span.request, : -(-span.length // page_size)].tolist()) for span in step)


def step_turns(table: RotaryTable, positions: torch.Tensor, geometry) -> tuple[Turn | None, QueryTurns]:
    """The first turn, of keys and queries, and what turns queries on from there."""
    step = table.step(positions, geometry)
    within = positions % geometry.chunk_length
    (cos, sin), (c, s) = step.places, step.place
    # From the place in the chunk: the turn to the far place, taken back by the turn to the near one.
    cos, sin = cos * c + sin * s, sin * c - cos * s
    if step.factor is not None:
        cos, sin = cos * step.factor, sin * step.factor
    moved = bool((within != positions).any())
    place = (c.unsqueeze(1), s.unsqueeze(1)) if moved else None
    return place, QueryTurns(cos, sin, step.factor)


class DualChunkCPUImpl(CPUAttentionBackendImpl):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        refuse_layer(
            ALiBi=self.alibi_slopes is not None,
            a_sliding_window=self.sliding_window != -1,
            a_cap_on_logits=self.logits_soft_cap,
            attention_sinks=self.sinks is not None,
            keys_shared_between_layers=self.kv_sharing_target_layer_name,
            a_quantized_KV_cache=self.is_fp8_kv_cache,
        )

    def do_kv_cache_update(self, layer, key, value, kv_cache, slot_mapping):
        """Writes keys [N, G, D], turned to their place in the chunk, and values to the slots of the cache."""
        metadata = _metadata(layer.layer_name)
        if metadata is None:
            return
        slots = slot_mapping[: metadata.num_actual_tokens]
        key, value = key[: len(slots)], value[: len(slots)]
        if metadata.place is not None:
            key = turn(key, *metadata.place)
        if len(slots) and slots.min() < 0:  # padding
            kept = slots >= 0
            key, value, slots = key[kept], value[kept], slots[kept]
        write(_as_pages(kv_cache), slots.long(), key, value)

    def forward(
        self,
        layer,
        query,
        key,
        value,
        kv_cache,
        attn_metadata,
        output,
        output_scale=None,
        output_block_scale=None,
    ):
        """Attention of queries [N, H, D] into `output` [N, H, D]; keys and values come from the cache."""
        if output_scale is not None or output_block_scale is not None:
            raise NotImplementedError("Dual Chunk Attention has no fused quantization of its output.")
        if attn_metadata is None:  # warming up
            return output
        tokens = attn_metadata.num_actual_tokens
        query = query[:tokens]
        if attn_metadata.place is not None:
            query = turn(query, *attn_metadata.place)
        cache = _as_pages(kv_cache)
        geometry = attn_metadata.geometry
        for span, where in zip(attn_metadata.spans, attn_metadata.runs):
            rows = slice(span.start, span.stop)
            turns = _of_rows(attn_metadata.turns, rows)
            if span.stop - span.start == 1:
                output[span.start] = attend_last(
                    query[span.start], cache, where, span.length, turns, geometry.chunk_length, self.scale
                )
                continue
            keys, values = read(cache, where, span.length)
            attended = dual_chunk_attention(
                query[rows].transpose(0, 1).unsqueeze(0),
                keys,
                values,
                geometry=geometry,
                scaling=self.scale,
                turns=turns,
            )
            output[rows] = attended[0].transpose(0, 1)
        return output


def _metadata(layer_name: str) -> DualChunkCPUMetadata | None:
    """vLLM writes the cache outside of `forward` and hands on no metadata."""
    metadata = get_forward_context().attn_metadata
    if isinstance(metadata, list):
        metadata = metadata[0]
    return metadata[layer_name] if isinstance(metadata, dict) else metadata


def _as_pages(kv_cache: torch.Tensor) -> torch.Tensor:
    """The memory of a layer's cache as `paged` has it; the order of keys within a page that the stock kernel has is
    good for that kernel alone."""
    pages, heads, size, twice = kv_cache.shape
    return kv_cache.view(pages, heads, 2, size, twice // 2)


def _of_rows(turns: QueryTurns, rows: slice) -> QueryTurns:
    factor = None if turns.factor is None else turns.factor[rows]
    return QueryTurns(turns.cos[:, rows], turns.sin[:, rows], factor)

"""Dual Chunk Attention as an attention backend of vLLM's V1 engine, on CUDA, over vLLM's own flash attention.

Each request's tokens are cut at the borders of chunks; each piece is a sequence of its own to the kernel, whose keys
are a range of whole pages. Two calls a layer, one causal (intra) and one not (successive and inter), and their outputs
merged by their log-sum-exps. Shapes: N tokens of a step, H query heads, G key/value heads, D head size.
"""

from dataclasses import dataclass, fields

import torch
from vllm.forward_context import get_forward_context
from vllm.utils.torch_utils import canonicalize_singleton_dim_strides
from vllm.v1.attention.backend import AttentionCGSupport
from vllm.v1.attention.backends import fa_utils
from vllm.v1.attention.backends.flash_attn import (
    FlashAttentionBackend,
    FlashAttentionImpl,
    FlashAttentionMetadata,
    FlashAttentionMetadataBuilder,
)
from vllm.v1.attention.ops.merge_attn_states import merge_attn_states

from dca_hub.modeling.dual_chunk_attention import ORDER, turn
from dca_hub.modeling.dual_chunk_geometry import Relation
from dca_hub.serving.refusals import refuse_layer, refuse_pages
from dca_hub.serving.rotation import Turn, model_table
from dca_hub.serving.settings import geometry_of
from dca_hub.serving.spans import Sequences, pieces, positions, sequences, spans

FAR = (Relation.SUCCESSIVE, Relation.INTER)


class DualChunkFlashBackend(FlashAttentionBackend):
    supports_kv_cache_update_bypass = False  # keys are turned before they are written

    @staticmethod
    def get_impl_cls():
        return DualChunkFlashImpl

    @staticmethod
    def get_builder_cls():
        return DualChunkFlashMetadataBuilder


@dataclass
class DualChunkFlashMetadata(FlashAttentionMetadata):
    """What all layers share in one step. `place` takes rotated keys, and queries of the intra relation (`near`, every
    row in order), to their place in the chunk, or is None where all stand in their first one; `far_turn` takes the
    queries of `far` to theirs, the first `successive` of which are in that relation."""

    place: Turn | None = None
    near: Sequences | None = None
    near_factor: torch.Tensor | None = None
    far: Sequences | None = None
    far_turn: Turn | None = None
    far_factor: torch.Tensor | None = None
    successive: int = 0


class DualChunkFlashMetadataBuilder(FlashAttentionMetadataBuilder):
    # What is launched depends on where the borders of chunks fall.
    _cudagraph_support = AttentionCGSupport.NEVER
    supports_update_block_table = False

    def __init__(self, kv_cache_spec, layer_names, vllm_config, device):
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self.aot_schedule = False
        self.supports_draft_decode_metadata_update = False
        self.geometry = geometry_of(vllm_config)
        refuse_pages(self.geometry, self.block_size)
        self.table = model_table(vllm_config.model_config, kv_cache_spec.head_size, device, self.geometry)

    def build(self, common_prefix_len, common_attn_metadata, fast_build=False):
        plain = super().build(common_prefix_len, common_attn_metadata, fast_build)
        # The lengths on the CPU may be upper bounds, and a border of chunks must be where it is: one wait a step.
        step = spans(common_attn_metadata.query_start_loc_cpu.tolist(), plain.seq_lens.tolist())
        shared = {field.name: getattr(plain, field.name) for field in fields(plain)}
        return DualChunkFlashMetadata(**shared, **self._layout(step, plain.num_actual_tokens, plain.block_table))

    def _layout(self, step, tokens: int, table: torch.Tensor) -> dict:
        if not step:
            return {}
        at = positions(step, tokens)  # the rows of the step come first; what follows pads it
        turns = self.table.step(at.to(self.device), self.geometry)
        by_relation = pieces(step, self.geometry.chunk_length)
        moved = bool((at >= self.geometry.chunk_length).any())
        layout = {
            "place": _wide(turns.place) if moved else None,
            "near": sequences(by_relation[Relation.INTRA], table, self.block_size),
            "near_factor": None if turns.factor is None else turns.factor.unsqueeze(1),
        }
        apart = [by_relation[relation] for relation in FAR]
        if apart[0]:
            far = sequences(apart[0] + apart[1], table, self.block_size)
            successive = sum(piece.stop - piece.start for piece in apart[0])
            index = torch.full((len(far.rows),), ORDER.index(Relation.INTER), device=self.device)
            index[:successive] = ORDER.index(Relation.SUCCESSIVE)
            cos, sin = (values[index, far.rows] for values in turns.places)
            layout |= {
                "far": far,
                "far_turn": _wide((cos, sin)),
                "far_factor": None if turns.factor is None else turns.factor[far.rows].unsqueeze(1),
                "successive": successive,
            }
        return layout


def _wide(pair: Turn) -> Turn:
    """For vectors [N, heads, D]."""
    return pair[0].unsqueeze(1), pair[1].unsqueeze(1)


class DualChunkFlashImpl(FlashAttentionImpl):
    can_return_lse_for_decode = False
    supports_dcp = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        refuse_layer(
            ALiBi=self.alibi_slopes is not None,
            a_sliding_window=self.sliding_window != (-1, -1),
            a_cap_on_logits=self.logits_soft_cap,
            attention_sinks=self.sinks is not None,
            keys_shared_between_layers=self.kv_sharing_target_layer_name,
        )

    def do_kv_cache_update(self, layer, key, value, kv_cache, slot_mapping):
        """Turns keys [N, G, D] to their place in the chunk before they are written; vLLM hands on no metadata here."""
        metadata = _metadata(layer.layer_name)
        if metadata is not None and metadata.place is not None:
            tokens = len(metadata.place[0])
            key, value = turn(key[:tokens], *metadata.place), value[:tokens]
        super().do_kv_cache_update(layer, key, value, kv_cache, slot_mapping)

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
        if attn_metadata is None:  # a profiling run
            return output.fill_(0)
        if attn_metadata.near is None:
            return output
        cache = self._cache(kv_cache)
        rows = len(attn_metadata.near.rows)
        near = _turned(query[:rows], attn_metadata.place, attn_metadata.near_factor)
        out, lse = self._attend(near, cache, attn_metadata.near, causal=True)
        if attn_metadata.far is not None:
            far = _turned(query[attn_metadata.far.rows], attn_metadata.far_turn, attn_metadata.far_factor)
            far_out, far_lse = self._attend(far, cache, attn_metadata.far, causal=False)
            for part in (slice(None, attn_metadata.successive), slice(attn_metadata.successive, None)):
                if len(far_out[part]):
                    _merge(out, lse, far_out[part], far_lse[:, part], attn_metadata.far.rows[part])
        output[:rows] = out
        return output

    def _cache(self, kv_cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The pages of keys and of values, [pages, page size, G, D] each."""
        halves = kv_cache.transpose(1, 2).split(self.head_size, dim=-1)
        return tuple(canonicalize_singleton_dim_strides(half) for half in halves)

    def _attend(self, query, cache, sequences: Sequences, causal: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The output [M, H, D] and the log-sum-exp [H, M] of one kernel call."""
        return fa_utils.flash_attn_varlen_func(
            q=query,
            k=cache[0],
            v=cache[1],
            cu_seqlens_q=sequences.starts,
            max_seqlen_q=sequences.longest_query,
            seqused_k=sequences.lengths,
            max_seqlen_k=sequences.longest_key,
            softmax_scale=self.scale,
            causal=causal,
            block_table=sequences.pages,
            return_softmax_lse=True,
            fa_version=self.vllm_flash_attn_version,
        )[:2]


def _turned(query: torch.Tensor, to: Turn | None, factor: torch.Tensor | None) -> torch.Tensor:
    """Queries [M, H, D] at their places, with the temperature."""
    if to is not None:
        count = len(query)
        query = turn(query, to[0][:count], to[1][:count])
    return query if factor is None else (query * factor[: len(query)]).to(query.dtype)


def _merge(out, lse, part_out, part_lse, rows: torch.Tensor) -> None:
    """Merges a part, of those rows, into the running output [N, H, D] and log-sum-exp [H, N]."""
    every = len(rows) == len(out)
    so_far, so_far_lse = (out, lse) if every else (out[rows], lse[:, rows])
    merged, merged_lse = torch.empty_like(so_far), torch.empty_like(so_far_lse)
    merge_attn_states(merged, part_out.contiguous(), part_lse.contiguous(), so_far, so_far_lse.contiguous(), merged_lse)
    if every:
        out.copy_(merged), lse.copy_(merged_lse)
    else:
        out[rows], lse[:, rows] = merged, merged_lse


def _metadata(layer_name: str) -> DualChunkFlashMetadata | None:
    metadata = get_forward_context().attn_metadata
    if isinstance(metadata, list):
        metadata = metadata[0]
    return metadata[layer_name] if isinstance(metadata, dict) else metadata

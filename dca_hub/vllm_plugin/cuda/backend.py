"""Dual Chunk Attention as an attention backend of vLLM's V1 engine, on CUDA, over vLLM's own flash attention.

A step whose tokens are all in the first chunk of their request is vLLM's own, unchanged, unless a CUDA graph may replay
it. Any other takes some launches a layer besides flash attention's: keys are rotated and written, queries rotated, keys
that many queries see copied together, and the parts merged; `layout` says into which parts. Shapes: N tokens of a
step, H query heads, G key/value heads, D head size.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from vllm.config import get_current_vllm_config
from vllm.logger import init_logger
from vllm.utils.math_utils import round_up
from vllm.utils.torch_utils import canonicalize_singleton_dim_strides
from vllm.v1.attention.backend import AttentionCGSupport
from vllm.v1.attention.backends import fa_utils
from vllm.v1.attention.backends.flash_attn import (
    FlashAttentionBackend,
    FlashAttentionImpl,
    FlashAttentionMetadata,
    FlashAttentionMetadataBuilder,
)
from vllm.v1.worker.workspace import current_workspace_manager

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.vllm_plugin.cuda.key_copy import attend_copied, key_copy
from dca_hub.vllm_plugin.cuda.layout import DecodeMemory, FlashSequences, Layout, lay_out
from dca_hub.vllm_plugin.cuda.ops import Kernels
from dca_hub.vllm_plugin.cuda.select import kernels_for
from dca_hub.vllm_plugin.layer import DualChunkLayer
from dca_hub.vllm_plugin.model_rotary import geometry_and_table
from dca_hub.vllm_plugin.refusals import refuse_pages
from dca_hub.vllm_plugin.rotary_table import RotaryTable
from dca_hub.vllm_plugin.step import layer_metadata

logger = init_logger(f"vllm.{__name__}")

# FA3 cuts sequences by their lengths as long as there are at most so many, and beyond that all alike.
_MOST_CUT_BY_LENGTH = 992
# Of all sequences together, in a CUDA graph: vLLM reckons with the memory of the graph with the most requests, whose
# sequences may be too many to be cut at all.
_MOST_PARTS = 4096


class DualChunkFlashBackend(FlashAttentionBackend):
    supports_kv_cache_update_bypass = False  # keys are rotated before they are written

    @staticmethod
    def get_impl_cls():
        return DualChunkFlashImpl

    @staticmethod
    def get_builder_cls():
        return DualChunkFlashMetadataBuilder


@dataclass
class DualChunkFlashMetadata(FlashAttentionMetadata):
    """What all layers share in one step: vLLM's own, and the layout, or None where vLLM's own is all it takes."""

    layout: Layout | None = None
    geometry: DualChunkGeometry | None = None
    table: RotaryTable | None = None
    kernels: Kernels | None = None


class DualChunkFlashMetadataBuilder(FlashAttentionMetadataBuilder):
    # Only of steps of one token a request: any other is cut into as many sequences as it happens to take.
    _cudagraph_support = AttentionCGSupport.UNIFORM_SINGLE_TOKEN_DECODE
    supports_update_block_table = False

    def __init__(self, kv_cache_spec, layer_names, vllm_config, device):
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self.supports_draft_decode_metadata_update = False
        size = kv_cache_spec.head_size
        self.geometry, self.table = geometry_and_table(vllm_config, layer_names, size, device)
        refuse_pages(self.geometry, self.block_size)
        self.kernels, reason = kernels_for(device)
        logger.info_once("Dual Chunk Attention rotates and merges rows by %s", reason)
        longest, requests = vllm_config.model_config.max_model_len, vllm_config.scheduler_config.max_num_seqs
        self.decode = DecodeMemory(requests, -(-longest // self.block_size), device)
        version = fa_utils.get_flash_attn_version(head_size=self.headdim, supports_fa4_hd256=True)
        self.key_copy = key_copy(version, self.num_heads_q, self.num_heads_kv, self.headdim, longest)
        # For a single query, FA2 takes row n to be that of sequence n, whatever it is told.
        self.all_have_rows = version != 3
        self.speculates = vllm_config.speculative_config is not None
        if self.use_full_cuda_graph and self.aot_schedule:
            # vLLM's own has room for one sequence a request, of up to four numbers each.
            sequences = max(3 * requests, self.max_cudagraph_size or 0)
            self.scheduler_metadata = torch.zeros(1 + 4 * round_up(sequences, 4), dtype=torch.int32, device=device)

    def build(self, common_prefix_len, common_attn_metadata, fast_build=False):
        layout = self._layout(common_attn_metadata)
        # A schedule for sequences that are not attended to would be for nothing.
        plain = super().build(common_prefix_len, common_attn_metadata, fast_build or layout is not None)
        if layout is not None and not layout.cross and not fast_build:
            layout = replace(layout, intra=self._scheduled(layout.intra, self._may_replay(common_attn_metadata)))
        shared = {field.name: getattr(plain, field.name) for field in fields(plain)}
        return DualChunkFlashMetadata(
            **shared, layout=layout, geometry=self.geometry, table=self.table, kernels=self.kernels
        )

    def _layout(self, common) -> Layout | None:
        starts = common.query_start_loc_cpu
        if common.max_query_len != 1 or not _one_each(starts):
            numbers = (x.numpy().astype(np.int64) for x in (starts, self._lengths(common)))
            return lay_out(*numbers, common.block_table_tensor, self.geometry, self.block_size, self.key_copy)
        if common.max_seq_len <= self.geometry.chunk_length and not self._may_replay(common):
            return None
        requests = min(common.num_reqs, common.num_actual_tokens)
        layout = self.decode.layout(requests, common.max_seq_len)
        self.kernels.lay_out_decode(
            common.seq_lens[:requests],
            common.block_table_tensor[:requests],
            self.geometry,
            self.block_size,
            layout.rows,
            layout.intra.starts,
            layout.intra.lengths,
            layout.intra.pages,
            self.all_have_rows,
        )
        return layout

    def _may_replay(self, common) -> bool:
        """Whether a CUDA graph may be captured or replayed with this step: it reads what it read when captured."""
        if not self.use_full_cuda_graph or self.speculates:
            return False
        return common.num_actual_tokens <= (self.max_cudagraph_size or 0)

    def _lengths(self, common) -> torch.Tensor:
        """The tokens of each request, on the CPU: a border of chunks must be where it is."""
        known = common.seq_lens_cpu_upper_bound
        if known is None or self.speculates:  # an upper bound, while it is open which drafts were right
            return common.seq_lens.cpu()
        return known

    def _scheduled(self, sequences: FlashSequences, for_graph: bool) -> FlashSequences:
        """With the schedule of FA3, which only that version has. A graph's memory is for a fixed number of splits."""
        if not self.aot_schedule:
            return sequences
        count = len(sequences.lengths)
        splits = min(self.max_num_splits, _MOST_PARTS // count) if for_graph else 0
        if count > _MOST_CUT_BY_LENGTH:
            splits = 1
        schedule = self._get_scheduler_metadata(
            aot_schedule=True,
            batch_size=count,
            cu_query_lens=sequences.starts,
            max_query_len=sequences.longest_query,
            seqlens=sequences.lengths,
            max_seq_len=sequences.longest_key,
            causal=True,
            max_num_splits=splits,
        )
        return replace(sequences, schedule=self._store_scheduler_metadata(schedule), splits=splits)


def _one_each(starts: torch.Tensor) -> bool:
    """Whether the rows of a step are one of each request; requests that only pad it come last and have none."""
    rows = int(starts[-1])
    return rows < len(starts) and int(starts[rows]) == rows


class DualChunkFlashImpl(DualChunkLayer, FlashAttentionImpl):
    can_return_lse_for_decode = False
    supports_dcp = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        longest = get_current_vllm_config().model_config.max_model_len
        sizes = self.num_heads, self.num_kv_heads, self.head_size
        self.key_copy = key_copy(self.vllm_flash_attn_version, *sizes, longest)

    def do_kv_cache_update(self, layer, key, value, kv_cache, slot_mapping):
        """Writes keys [N, G, D], rotated to their position in the chunk, and values to the cache."""
        metadata = layer_metadata(layer.layer_name)
        if metadata is None or metadata.layout is None:
            return super().do_kv_cache_update(layer, key, value, kv_cache, slot_mapping)
        metadata.kernels.write_keys(
            key,
            value,
            self._cache(kv_cache),
            slot_mapping,
            metadata.layout.rows.positions,
            metadata.table,
            metadata.geometry,
        )

    def attend(self, layer, query, key, value, kv_cache, attn_metadata, output):
        layout = None if attn_metadata is None else attn_metadata.layout
        if layout is None:
            if attn_metadata is None and self.key_copy:
                self._copy(query.dtype)  # vLLM measures what memory its layers take
            return FlashAttentionImpl.forward(self, layer, query, key, value, kv_cache, attn_metadata, output)
        cache, rows, kernels = self._cache(kv_cache), layout.rows, attn_metadata.kernels
        count = len(rows.positions)
        rotated = kernels.rotate_queries(query, rows, layout.cross_rows, attn_metadata.table, attn_metadata.geometry)
        if not layout.cross:
            # A single query sees all its keys either way, and of the two kernels vLLM's own decoding takes this.
            out, lse = self._attend(rotated, cache, layout.intra, causal=True)
            intra, intra_lse, cross, cross_lse = out[:count], lse[:, :count], out[count:], lse[:, count:]
        else:
            intra, intra_lse = self._attend(rotated[:count], cache, layout.intra, causal=True, out=output[:count])
            cross, cross_lse = self._attend_cross(rotated[count:], cache, layout.cross, kernels)
        kernels.merge(output[:count], intra, intra_lse, cross, cross_lse, rows)
        return output

    def _attend_cross(self, query, cache, calls: tuple[FlashSequences, ...], kernels: Kernels):
        """The output [F, H, D] and the log-sum-exp [H, F] of calls one after another."""
        out, lses, first = torch.empty_like(query), [], 0
        for sequences in calls:
            rows = slice(first, first + sequences.queries)
            if sequences.copied is None:
                lses.append(self._attend(query[rows], cache, sequences, causal=False, out=out[rows])[1])
            else:
                copy = self._copy(query.dtype)
                kernels.gather(cache, sequences.copied.pages, copy)
                lses.append(attend_copied(query[rows], copy, sequences, self.scale, out[rows]))
            first = rows.stop
        return out, lses[0] if len(lses) == 1 else torch.cat(lses, dim=1)

    def _copy(self, dtype: torch.dtype) -> torch.Tensor:
        """The memory for keys that are copied together, one for all layers."""
        shape = self.key_copy.shape(self.num_kv_heads, self.head_size)
        return current_workspace_manager().get_persistent((__name__, shape), shape, dtype, zero_init=True)

    def _cache(self, kv_cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The pages of keys and of values, [pages, page size, G, D] each."""
        halves = kv_cache.transpose(1, 2).split(self.head_size, dim=-1)
        return tuple(canonicalize_singleton_dim_strides(half) for half in halves)

    def _attend(self, query, cache, sequences: FlashSequences, causal: bool, out=None):
        """The output [M, H, D] and the log-sum-exp [H, M] of one kernel call."""
        return fa_utils.flash_attn_varlen_func(
            q=query,
            k=cache[0],
            v=cache[1],
            out=out,
            cu_seqlens_q=sequences.starts,
            max_seqlen_q=sequences.longest_query,
            seqused_k=sequences.lengths,
            max_seqlen_k=sequences.longest_key,
            softmax_scale=self.scale,
            causal=causal,
            block_table=sequences.pages,
            return_softmax_lse=True,
            scheduler_metadata=sequences.schedule,
            num_splits=sequences.splits,
            fa_version=self.vllm_flash_attn_version,
        )[:2]

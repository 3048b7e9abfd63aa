"""vLLM's own attention for queries of the first chunk, where Dual Chunk Attention is plain attention.

It reads keys in an order of its own, which the cache does not have, so they are copied once more. It gives no
log-sum-exp, so that the attention of later chunks cannot be put together from it.

Shapes: Q queries, K keys, H query heads, G key/value heads, P tokens of a page, D head size.
"""

import torch
from vllm import _custom_ops as ops
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl, CPUAttentionMetadata

from dca_hub.vllm_plugin.cpu.pages import PageShape
from dca_hub.vllm_plugin.spans import Span


def plan_first_chunk(
    span: Span, page: PageShape, heads: int, isa: str, chunk_length: int
) -> CPUAttentionMetadata | None:
    """The queries of a span that stand in the first chunk, as a step of vLLM's own attention over a copy of their keys
    in pages; or None if there are none. `heads` are those of queries, `isa` names the instructions of vLLM's kernel."""
    keys = min(span.length, chunk_length)
    queries = keys - span.first
    if queries <= 0:
        return None
    starts, lengths = (torch.tensor(x, dtype=torch.int32) for x in ([0, queries], [keys]))
    schedule = ops.cpu_attn_get_scheduler_metadata(
        num_reqs=1,
        num_heads=heads,
        num_kv_heads=page.heads,
        head_dim=page.size,
        seq_lens=lengths,
        dtype=page.dtype,
        query_start_loc=starts,
        causal=True,
        sliding_window_size=-1,
        isa=isa,
        enable_kv_split=True,
        dynamic_causal=None,
        kv_cache_dtype="auto",
    )
    return CPUAttentionMetadata(
        num_actual_tokens=queries,
        max_query_len=queries,
        query_start_loc=starts,
        max_seq_len=keys,
        seq_lens=lengths,
        block_table=torch.arange(-(-keys // page.tokens), dtype=torch.int32).unsqueeze(0),
        slot_mapping=torch.arange(keys),
        scheduler_metadata=schedule,
    )


def attend_first_chunk(
    impl: CPUAttentionBackendImpl,
    layer: torch.nn.Module,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    plan: CPUAttentionMetadata,
    page_tokens: int,
    output: torch.Tensor,
) -> None:
    """Causal attention of queries [Q, H, D] over the first of the keys and values [1, G, K, D] into `output`
    [Q, H, D]."""
    key, value = (x[0, :, : plan.max_seq_len].transpose(0, 1) for x in (keys, values))
    copy = key.new_zeros(plan.block_table.shape[1], key.shape[1], page_tokens, 2 * key.shape[2])
    CPUAttentionBackendImpl.do_kv_cache_update(impl, layer, key, value, copy, plan.slot_mapping)
    CPUAttentionBackendImpl.forward(impl, layer, query, key, value, copy, plan, output)

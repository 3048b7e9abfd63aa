"""Keys that many queries see are copied out of their pages first, since FA3 reads keys that lie in a row faster.

We call FA3 directly, with both cu_seqlens_k and seqused_k, so that sequences may share keys: vLLM's wrapper accepts
only one of the two. Shapes: G key/value heads, D head size, T tokens.
"""

from dataclasses import dataclass

import torch

# Queries, times the query heads that share a key, from which on the copy saves more than it costs: on an H200.
_WORTH_IT = 3000
_MOST_NUMBERS = 2**30  # 2 GiB, which vLLM is told of when it measures what memory is free


@dataclass(frozen=True)
class KeyCopyPolicy:
    """Which requests' keys are copied: those that at least so many queries of a step see from other chunks, as long as
    all of a step's have at most so many tokens."""

    least_queries: int
    most_tokens: int

    def shape(self, groups: int, size: int) -> tuple[int, int, int, int]:
        """Of the memory of the copy, [2, G, T, D]: keys and values. What is between two requests' keys or behind the
        last is read along and weighs nothing, but it must be finite."""
        return 2, groups, self.most_tokens, size


@dataclass(frozen=True)
class CopiedKeys:
    """Pages of the cache (int32) that are copied one after another, and where in the copy the keys of each sequence
    begin: int32 [P + 1], of which the last is the end of all."""

    pages: torch.Tensor
    starts: torch.Tensor


def key_copy(version: int | None, heads: int, groups: int, size: int, longest: int) -> KeyCopyPolicy | None:
    """What is worth copying for flash attention of this version, or None for nothing; `longest` is the most tokens that
    a request can have."""
    if version != 3:
        return None
    return KeyCopyPolicy(_WORTH_IT * groups // heads, min(longest, _MOST_NUMBERS // (2 * groups * size)))


def attend_copied(query, copy, sequences, scale: float, out) -> torch.Tensor:
    """Attention of queries [M, H, D] to all keys of their sequence in the copy [2, G, T, D], into `out` [M, H, D].
    Returns the log-sum-exp [H, M]. `sequences` are `FlashSequences` that have `copied`."""
    keys, values = copy.transpose(1, 2)
    absent = ("k_new", "v_new", "q_v", "cu_seqlens_k_new", "seqused_q", "page_table", "kv_batch_idx", "leftpad_k")
    absent += ("rotary_cos", "rotary_sin", "seqlens_rotary", "q_descale", "k_descale", "v_descale", "s_aux")
    absent += ("scheduler_metadata", "pack_gqa", "cp_tot_seqused_k")
    return torch.ops._vllm_fa3_C.fwd(
        q=query,
        k=keys,
        v=values,
        out=out,
        cu_seqlens_q=sequences.starts,
        cu_seqlens_k=sequences.copied.starts,
        seqused_k=sequences.lengths,
        max_seqlen_q=sequences.longest_query,
        max_seqlen_k=sequences.longest_key,
        softmax_scale=scale,
        is_causal=False,
        window_size_left=-1,
        window_size_right=-1,
        softcap=0.0,
        is_rotary_interleaved=True,
        num_splits=0,
        sm_margin=0,
        cp_world_size=1,
        cp_rank=0,
        **dict.fromkeys(absent),
    )[1]

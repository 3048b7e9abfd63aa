"""The CUDA backend on a CPU: vLLM's CUDA kernels, written out plainly as those of FA3, and the backend over them.

Imported before the backend, in the engine's process. What it shows is metadata and control flow; no kernel of CUDA
runs.
"""

import torch
from vllm.v1.attention.backends import fa_utils
from vllm.v1.kv_cache_interface import KVCacheLayout

VERSION = 3


def flash_attn_varlen_func(
    *, q, k, v, cu_seqlens_q, max_seqlen_q, seqused_k, max_seqlen_k, softmax_scale, causal, block_table, fa_version,
    out=None, window_size=(-1, -1), scheduler_metadata=None, num_splits=0, return_softmax_lse=False,
    **of_the_plain_call,
):  # fmt: skip
    """Attention of ragged sequences over pages: out [M, H, D] and log-sum-exp [H, M]; a causal mask ends bottom right.
    Garbage stands where the real kernel leaves memory as it was, and no keys give one infinity or the other."""
    assert not any(of_the_plain_call.get(name) for name in ("alibi_slopes", "softcap", "s_aux", "mask_mod"))
    out = torch.empty_like(q) if out is None else out
    lse = torch.full((q.shape[1], q.shape[0]), float("nan"))
    out[:] = float("nan")
    assert cu_seqlens_q[-1] == len(q) and block_table.dtype == cu_seqlens_q.dtype == seqused_k.dtype == torch.int32
    assert block_table.shape[1] * k.shape[1] >= seqused_k.max() and seqused_k.max() <= max_seqlen_k
    assert scheduler_metadata is None or scheduler_metadata.tolist() == _schedule(
        seqused_k, max_seqlen_q, causal, num_splits
    )
    assert tuple(window_size) == (-1, -1)
    for number, length in enumerate(seqused_k.tolist()):
        rows = slice(int(cu_seqlens_q[number]), int(cu_seqlens_q[number + 1]))
        assert 0 < rows.stop - rows.start <= max_seqlen_q
        if not length:
            lse[:, rows] = float("inf") if number % 2 else float("-inf")
            continue
        pages = block_table[number, : -(-length // k.shape[1])].long()
        keys, values = (x[pages].flatten(0, 1)[:length].repeat_interleave(q.shape[1] // x.shape[2], 1) for x in (k, v))
        score = torch.einsum("qhd,khd->hqk", q[rows], keys) * softmax_scale
        if causal:
            unseen = torch.ones(score.shape[1:], dtype=torch.bool).triu(1 + length - score.shape[1])
            score = score.masked_fill(unseen, float("-inf"))
        lse[:, rows] = score.logsumexp(-1)
        out[rows] = torch.einsum("hqk,khd->qhd", score.softmax(-1), values)
    return (out, lse) if return_softmax_lse else out


def _schedule(lengths: torch.Tensor, longest_query: int, causal: bool, splits: int) -> list[int]:
    return [len(lengths), int(lengths.sum()), longest_query, int(causal), splits]


def get_scheduler_metadata(*, cache_seqlens, max_seqlen_q, causal, num_splits, **others) -> torch.Tensor:
    return torch.tensor(_schedule(cache_seqlens, max_seqlen_q, causal, num_splits))


def reshape_and_cache_flash(key, value, key_cache, value_cache, slot_mapping, kv_cache_dtype, k_scale, v_scale):
    count, page = len(slot_mapping), key_cache.shape[1]
    key_cache[slot_mapping // page, slot_mapping % page] = key[:count]
    value_cache[slot_mapping // page, slot_mapping % page] = value[:count]


fa_utils.get_flash_attn_version = lambda *args, **kwargs: VERSION
fa_utils.flash_attn_varlen_func = flash_attn_varlen_func

from vllm.v1.attention.backends import flash_attn  # noqa: E402

flash_attn.flash_attn_varlen_func = flash_attn_varlen_func
flash_attn.get_scheduler_metadata = get_scheduler_metadata
flash_attn.reshape_and_cache_flash = reshape_and_cache_flash

from dca_hub.serving import backend_cuda, hooks  # noqa: E402


class EmulatedBackend(backend_cuda.DualChunkFlashBackend):
    @classmethod
    def supported_kv_cache_layouts(cls):
        return (KVCacheLayout.LBHNC,)


hooks.BACKENDS["cpu"] = f"{__name__}.EmulatedBackend"

"""The CUDA backend on a CPU: vLLM's CUDA kernels, written out plainly as those of FA3, and the backend over them.

Imported before the backend, in the engine's process. What it shows is metadata and control flow; no kernel of CUDA
runs.
"""

import torch
from vllm.v1.attention.backends import fa_utils
from vllm.v1.kv_cache_interface import KVCacheLayout
from vllm.v1.worker import workspace

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
    # Where each request has one query, memory is for as many as there can be.
    assert cu_seqlens_q[-1] == len(q) or (max_seqlen_q == 1 and cu_seqlens_q[-1] < len(q))
    assert block_table.dtype == cu_seqlens_q.dtype == seqused_k.dtype == torch.int32
    assert block_table.shape[1] * k.shape[1] >= seqused_k.max() and seqused_k.max() <= max_seqlen_k
    assert scheduler_metadata is None or scheduler_metadata.tolist() == _schedule(
        seqused_k, max_seqlen_q, causal, num_splits
    )
    assert tuple(window_size) == (-1, -1)
    for number, length in enumerate(seqused_k.tolist()):
        rows = slice(int(cu_seqlens_q[number]), int(cu_seqlens_q[number + 1]))
        if VERSION == 2 and max_seqlen_q == 1 and q.shape[1] > k.shape[2]:
            rows = slice(number, number + 1)  # FA2 makes heads that share a key queries, and does not look at the rest
        assert (max_seqlen_q > 1) <= rows.stop - rows.start <= max_seqlen_q
        if not length:
            lse[:, rows] = float("inf") if number % 2 else float("-inf")
            continue
        pages = block_table[number, : -(-length // k.shape[1])].long()
        keys, values = (x[pages].flatten(0, 1)[:length] for x in (k, v))
        out[rows], lse[:, rows] = _attention(q[rows], keys, values, length, softmax_scale, causal)
    return (out, lse) if return_softmax_lse else out


def _attention(q, keys, values, length: int, scale: float, causal: bool):
    """Of queries [Q, H, D] and keys and values [K, G, D]: the output, and the log-sum-exp [H, Q]."""
    keys, values = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (keys, values))
    score = torch.einsum("qhd,khd->hqk", q, keys) * scale
    if causal:
        unseen = torch.ones(score.shape[1:], dtype=torch.bool).triu(1 + length - score.shape[1])
        score = score.masked_fill(unseen, float("-inf"))
    return torch.einsum("hqk,khd->qhd", score.softmax(-1), values), score.logsumexp(-1)


LIBRARY = torch.library.Library("_vllm_fa3_C", "DEF")
LIBRARY.define(
    "fwd(Tensor q, Tensor k, Tensor v, Tensor? k_new, Tensor? v_new, Tensor? q_v, Tensor(a!)? out, "
    "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, Tensor? cu_seqlens_k_new, Tensor? seqused_q, Tensor? seqused_k, "
    "int? max_seqlen_q, int? max_seqlen_k, Tensor? page_table, Tensor? kv_batch_idx, Tensor? leftpad_k, "
    "Tensor? rotary_cos, Tensor? rotary_sin, Tensor? seqlens_rotary, Tensor? q_descale, Tensor? k_descale, "
    "Tensor? v_descale, float softmax_scale, bool is_causal, int window_size_left, int window_size_right, "
    "float softcap, bool is_rotary_interleaved, Tensor? scheduler_metadata, int num_splits, bool? pack_gqa, "
    "int sm_margin, Tensor? s_aux, int cp_world_size, int cp_rank, Tensor? cp_tot_seqused_k) -> Tensor[]"
)


def forward(*arguments) -> list[torch.Tensor]:
    """FA3's own entry, for keys that lie in a row: a sequence is a place among them and a length."""
    names = [argument.name for argument in torch.ops._vllm_fa3_C.fwd.default._schema.arguments]
    given = {name: value for name, value in zip(names, arguments) if value is not None}
    q, k, v, out, starts, scale = (given.pop(name) for name in ("q", "k", "v", "out", "cu_seqlens_q", "softmax_scale"))
    places, lengths, most = given.pop("cu_seqlens_k"), given.pop("seqused_k"), given.pop("max_seqlen_q")
    assert lengths.max() <= given.pop("max_seqlen_k") and k.isfinite().all() and v.isfinite().all()
    assert not any(value for name, value in given.items() if not name.startswith(("window", "is_rotary", "cp_world")))
    lse = torch.full((q.shape[1], q.shape[0]), float("nan"))
    for number, (first, length) in enumerate(zip(places.tolist(), lengths.tolist())):
        rows = slice(int(starts[number]), int(starts[number + 1]))
        assert 0 < rows.stop - rows.start <= most and length > 0 and first + length <= len(k)
        keys, values = (x[first : first + length] for x in (k, v))
        out[rows], lse[:, rows] = _attention(q[rows], keys, values, length, scale, causal=False)
    return [out, lse]


LIBRARY.impl("fwd", forward, "CPU")


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

from dca_hub.vllm_plugin import hooks  # noqa: E402
from dca_hub.vllm_plugin.cuda import backend, key_copy  # noqa: E402


class EmulatedBackend(backend.DualChunkFlashBackend):
    @classmethod
    def supported_kv_cache_layouts(cls):
        return (KVCacheLayout.LBHNC,)


workspace.init_workspace_manager(torch.device("cpu"))
# A step of a test has few queries, and its longest requests should have their keys copied all the same.
key_copy._WORTH_IT = 60
hooks.BACKENDS["cpu"] = f"{__name__}.EmulatedBackend"

"""Block-sparse attention: with every block kept it is Dual Chunk Attention; else its twin's, over the blocks that a
direct computation chooses."""

from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from dca_hub import DcaHubError, extend
from dca_hub.compat import with_cache
from dca_hub.modeling.dual_chunk_attention import naive_dual_chunk_attention
from dca_hub.modeling.dual_chunk_blocks import BLOCK, Slab, attend_blocks_naive, naive_scores, slabs
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import relation_rotations
from dca_hub.modeling.dual_chunk_selection import Selection, SparseAttention, block_weights, fewest, vertical_slash
from dca_hub.modeling.dual_chunk_sparse import SparseCall, SparseWatch, attend_blocks, attend_sparse
from support.interpreted import run_script
from support.op_cases import inverse_frequencies

GEOMETRY = DualChunkGeometry(384, 128, 512, temperature=0.1)
S, D, SCALING = GEOMETRY.chunk_length, 16, 16**-0.5
CASES = [(0, 900), (300, 1100), (0, 200), (517, 1023)]  # the first query's position, and the keys


def tensors(first: int, keys: int, dtype=torch.float64):
    torch.manual_seed(first + keys)
    query = torch.randn(2, 4, keys - first, D, dtype=dtype) * 2
    key, value = (torch.randn(2, 2, keys, D, dtype=dtype) for _ in range(2))
    return query, key, value, relation_rotations(torch.arange(first, keys), inverse_frequencies(D).double(), GEOMETRY)


def rotated(query, rotations, slab: Slab, first: int):
    rows = slice(slab.start - first, slab.stop - first)
    return {r: rotations.forward(query[:, :, rows], r, rows) for r, *_ in slab.ranges}


def naive(query, key, value, rotations, first: int, sinks=None):
    at, slots = torch.arange(first, key.shape[2])[None], torch.arange(key.shape[2])[None]
    return naive_dual_chunk_attention(query, key, value, rotations, at, slots, S, SCALING, sinks=sinks)[0]


@pytest.mark.parametrize(("first", "last"), CASES)
def test_slabs_cover_every_query_once_and_their_ranges_every_key_in_its_relation(first, last):
    found = list(slabs(first, last, S, 2 * BLOCK))
    assert (found[0].start, found[-1].stop) == (first, last)
    assert all(a.stop == b.start and a.start // S == (a.stop - 1) // S for a, b in pairwise([*found, found[-1]][:-1]))
    for slab in found:
        relations = [relation for relation, begin, end in slab.ranges for _ in range(begin, end)]
        assert relations == [GEOMETRY.relation(slab.stop - 1, key) for key in range(slab.stop)]


@pytest.mark.parametrize("sinks", [None, torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)])
@pytest.mark.parametrize(("first", "last"), CASES)
def test_with_every_block_it_is_dual_chunk_attention(first, last, sinks):
    query, key, value, rotations = tensors(first, last)
    call = SparseCall(SparseAttention(share=1.0))
    out = attend_sparse(query, key, value, rotations, GEOMETRY, SCALING, call, sinks)
    torch.testing.assert_close(out, naive(query, key, value, rotations, first, sinks), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("first", "last"), CASES)
def test_chosen_blocks_give_what_the_twin_gives(first, last):
    query, key, value, rotations = tensors(first, last)
    for slab in slabs(first, last, S, 2 * BLOCK):
        queries = rotated(query, rotations, slab, first)
        kept = torch.rand(2, 4, len(slab.blocks), slab.blocks.stop) < 0.4
        kept[..., 0] = True
        kept &= slab.seen(kept.device)
        for mine, its in zip(
            attend_blocks(queries, key, value, slab, kept, SCALING),
            attend_blocks_naive(queries, key, value, slab, kept, SCALING),
            strict=True,
        ):
            torch.testing.assert_close(mine, its, rtol=0, atol=1e-12)


@pytest.mark.parametrize("number", [0, 1, -1])
@pytest.mark.parametrize("stride", [4, 16])
def test_antidiagonals_are_scored_as_a_direct_computation_does(stride, number):
    first, last = 300, 1100
    query, key, _, rotations = tensors(first, last)
    slab = list(slabs(first, last, S, 2 * BLOCK))[number]
    queries = rotated(query, rotations, slab, first)
    logits = torch.zeros(2, 4, len(slab.blocks) * BLOCK, slab.blocks.stop * BLOCK, dtype=torch.float64)
    logits[:, :, slab.lead : slab.lead + slab.stop - slab.start, : slab.stop] = naive_scores(
        queries, key, slab, SCALING
    )
    squares = logits.unflatten(2, (-1, stride)).unflatten(4, (-1, stride))  # [B, H, rows, stride, columns, stride]
    means = sum(squares[:, :, :, stride - 1 - i, :, i] for i in range(stride)) / stride
    row = torch.arange(means.shape[2]) + slab.blocks.start * BLOCK // stride
    weights = means.masked_fill(torch.arange(means.shape[3]) > row[:, None], -torch.inf).softmax(-1)
    weights[:, :, ((row + 1) * stride <= slab.start) | (row * stride >= slab.stop)] = 0  # no query
    side = BLOCK // stride
    expected = weights.unflatten(2, (-1, side)).unflatten(4, (-1, side)).sum((3, 5))
    torch.testing.assert_close(block_weights(queries, key, slab, stride, SCALING), expected, rtol=0, atol=1e-12)


def test_the_fewest_blocks_that_hold_the_share_are_kept():
    weights = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 2.0, 0.0]])
    assert [row.nonzero()[:, 0].tolist() for row in fewest(weights, 0.6)] == [[0, 2], [0, 1, 2], [2]]
    assert fewest(weights, 1.0)[1].all()


def test_more_share_keeps_more_blocks_and_what_is_always_kept_is_kept():
    query, key, _, rotations = tensors(0, 1024)
    slab = Slab(768, 1024, S)
    queries = rotated(query, rotations, slab, 0)
    kept = {}
    for share in (0.01, 0.5, 0.9, 1.0):
        choose = Selection.of(query, key, rotations, GEOMETRY, SCALING, SparseAttention(share=share), 0)
        kept[share] = choose(queries, slab)
        assert kept[share][:, :, 0, [0, 5, 6]].all() and kept[share][:, :, 1, [0, 6, 7]].all()
        assert not kept[share][:, :, 0, 7].any()  # not seen yet
    sums = [int(one.sum()) for one in kept.values()]
    assert sums == sorted(sums) and sums[0] < sums[-1] == 2 * 4 * (7 + 8)


def test_columns_and_diagonals_are_those_of_a_direct_computation():
    query, key, _, rotations = tensors(0, 1000)
    slab = Slab(936, 1000, S)
    queries = rotated(query, rotations, slab, 0)
    counts = [(40, 150), (30, 100), (200, 110), (31, 500)]
    columns, diagonals = vertical_slash(queries, key, slab, SCALING, counts)
    score = naive_scores(queries, key, slab, SCALING)
    for head, (most_columns, most_distances) in enumerate(counts):
        by_key, by_distance = torch.zeros(1000, dtype=torch.float64), torch.zeros(1000, dtype=torch.float64)
        for row in range(64):
            weights = score[1, head, row, : 937 + row].softmax(-1)
            by_key[: 937 + row] += weights
            by_distance[: 937 + row] += weights.flip(0)
        by_key[:30], by_distance[:100] = torch.inf, torch.inf
        keys, distances = by_key.topk(most_columns).indices, by_distance.topk(most_distances).indices
        assert set(columns[1, head].nonzero()[:, 0].tolist()) == set((keys // BLOCK).tolist())
        back = {int(d) // BLOCK for d in distances} | {-(-int(d) // BLOCK) for d in distances}
        assert set(diagonals[1, head].nonzero()[:, 0].tolist()) == {n for n in back if n < 8}


def tiny(**extra) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, **extra)).eval()


SIZES = {"chunk_size": 384, "local_size": 128}


@torch.no_grad()
def test_a_model_reads_sparsely_in_pieces_and_says_what_it_kept():
    model, ids = tiny(), torch.randint(0, 97, (1, 1400))
    dense = extend(model, **SIZES)
    whole = extend(model, **SIZES, sparse=SparseAttention(share=1.0, least_keys=0))
    some = extend(model, **SIZES, sparse=SparseAttention(share=0.3, least_keys=0))
    expected = dense(ids, use_cache=False).logits
    with whole.watch_sparse_attention() as watch:
        cache = DynamicCache(config=whole.config)
        pieces = [whole(part, **with_cache(whole, cache)).logits for part in ids.split(700, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), expected, rtol=0, atol=2e-5)
    assert watch.density == 1.0 and watch.share == pytest.approx(1.0, abs=1e-5)
    with some.watch_sparse_attention() as watch:
        out = some(ids, use_cache=False).logits
    assert 0.2 < watch.density < 0.9 and watch.density < watch.share < 1.0
    assert not torch.allclose(out, expected, atol=1e-3)
    assert some.base_model.rotary_emb.watch is None


@torch.no_grad()
def test_short_texts_and_short_continuations_are_dense():
    model, ids = tiny(), torch.randint(0, 97, (1, 1000))
    sparse = extend(model, **SIZES, sparse=SparseAttention(share=0.1, least_keys=1001))
    assert torch.equal(sparse(ids).logits, extend(model, **SIZES)(ids).logits)
    with extend(model, **SIZES, sparse=0.1).watch_sparse_attention() as watch:
        pass
    assert watch.blocks == 0


def test_vertical_slash_reads_the_checkpoints_own_sizes(tmp_path):
    heads = {str(layer): {str(head): ["vertical_and_slash", 40, 120, 0.5] for head in range(4)} for layer in range(2)}
    said = {"chunk_size": 384, "local_size": 128, "original_max_position_embeddings": 512}
    model = tiny(dual_chunk_attention_config={**said, "sparse_attention_config": heads})
    extended = extend(model, sparse="vertical_slash")
    assert extended.base_model.rotary_emb.sparse.heads[1][3] == (40, 120)
    extended.save_pretrained(tmp_path)
    again = type(extended).from_pretrained(tmp_path).base_model.rotary_emb.sparse
    assert again == extended.base_model.rotary_emb.sparse
    with pytest.raises(DcaHubError, match="vertical_slash needs a sparse_attention_config"):
        extend(tiny(), **SIZES, sparse="vertical_slash")
    model.config.dual_chunk_attention_config["sparse_attention_config"] = {"0": {"0": ["x", -1, 3]}}
    with pytest.raises(DcaHubError, match="is not a map"):
        extend(model, sparse="vertical_slash")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (0.0, "share must be"), (1.5, "share must be"), ("lottery", "must be one of xattention"),
        ({"block": 64}, "sparse must be a method"), ({"stride": 5}, "stride must be"),
        ({"least_keys": -1}, "least_keys"),
    ],
)  # fmt: skip
def test_other_settings_are_refused(given, words):
    with pytest.raises(DcaHubError, match=words):
        extend(tiny(), **SIZES, sparse=given)


def test_what_cannot_be_right_is_refused():
    with pytest.raises(DcaHubError, match="multiple of 128 tokens, and chunk_size - local_size is 320"):
        extend(tiny(), sparse=True)
    model = extend(tiny(), **SIZES, sparse=SparseAttention(least_keys=0)).train()
    with pytest.raises(ValueError, match="has no gradients: train with dense"):
        model(torch.randint(0, 97, (1, 600)))


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
@pytest.mark.parametrize(
    "interpreted", [pytest.param(True, marks=pytest.mark.slow), pytest.param(False, marks=pytest.mark.gpu)]
)
def test_the_kernel_gives_what_the_twin_gives(interpreted):
    found = run_script("sparse_cases.py", interpreted=interpreted)
    assert len(found) >= 8 and {name: error for name, error in found.items() if not error <= 2} == {}


def test_a_watch_that_saw_nothing_kept_everything():
    assert (SparseWatch().density, SparseWatch().share) == (1.0, 1.0)


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
@pytest.mark.parametrize(
    ("shared", "size", "pieces"),
    [(232_448, 128, (128, 3)), (232_448, 256, (64, 2)), (101_376, 128, (64, 2)), (101_376, 256, (32, 1))],
)
def test_a_kernel_takes_as_many_keys_at_a_time_as_there_is_shared_memory_for(shared, size, pieces, monkeypatch):
    from dca_hub.modeling import dual_chunk_selection_triton as kernels
    from dca_hub.modeling.dual_chunk_sparse_triton import _PIECES

    monkeypatch.setattr(kernels, "shared_memory", {1: shared}.get)
    bytes_of = lambda keys, stages: (128 + 2 * keys * stages) * 2 * size
    found = kernels.first_to_fit(_PIECES, bytes_of, torch.device("cuda:1"))
    assert found == pieces

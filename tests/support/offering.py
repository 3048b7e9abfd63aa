"""A machine on which sparse reading is a choice: for texts of some thousand tokens, without a GPU."""

from dca_hub import loading
from dca_hub.modeling.dual_chunk_selection import SparseAttention


def offer_sparse(monkeypatch, least_keys: int) -> None:
    usual = SparseAttention()
    defaults = (usual.method, usual.share, usual.stride, least_keys, usual.heads)
    monkeypatch.setattr(SparseAttention.__init__, "__defaults__", defaults)
    monkeypatch.setattr(loading, "without_triton", lambda device: None)

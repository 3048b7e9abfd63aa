"""Which prompts go together: neighbours of like length, as many as there is room for."""

from dataclasses import replace
from types import SimpleNamespace

import torch

from dca_hub.evaluation import batches
from dca_hub.evaluation.batches import Room, grouped


def test_neighbours_of_one_key_are_grouped_to_their_number_of_rows_and_none_is_lost():
    items = ["a1", "a2", "a3", "b1", "a4"]
    found = list(grouped(items, lambda item: item[0], lambda key: 2))
    assert found == [["a1", "a2"], ["a3"], ["b1"], ["a4"]]
    assert list(grouped([], len, lambda key: 2)) == []


def test_a_gpu_takes_what_its_free_memory_holds_and_a_cpu_one_at_a_time(loaded, monkeypatch):
    assert Room(loaded).rows(4096) == 1 and Room(loaded, 5).rows(4096) == 5
    on_gpu = SimpleNamespace(device=torch.device("cuda"), model=loaded.model, source=loaded.source)
    a_token = loaded.cache_bytes_per_token
    monkeypatch.setattr(batches, "free_bytes", lambda device: 10 * 1000 * a_token / batches._SHARE)
    assert Room(on_gpu).rows(1000) == 10 and Room(on_gpu).rows(10) == batches.MOST
    assert Room(on_gpu).rows(10**9) == 1
    assert replace(Room(loaded), most=3).rows(10**9) == 3, "who says a number gets it"

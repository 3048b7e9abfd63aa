"""Pages of a cache, in any order: what was written comes back."""

import random

import pytest
import torch

from dca_hub.vllm_plugin.cpu.pages import PageShape, read, slot_indices, write

PAGE, GROUPS, SIZE = 4, 2, 8
SHAPE = PageShape(PAGE, GROUPS, SIZE, torch.float32)


@pytest.mark.parametrize("length", [1, 11, 12, 23, 50])
def test_what_is_written_is_read(length):
    cache = torch.full((40, GROUPS, 2, PAGE, SIZE), float("nan"))
    pages = random.Random(length).sample(range(40), -(-length // PAGE))
    kept = torch.randn(2, length, GROUPS, SIZE)
    slots = torch.tensor([pages[at // PAGE] * PAGE + at % PAGE for at in range(length)])
    write(cache, slot_indices(slots, SHAPE), *kept)
    for found, expected in zip(read(cache, torch.tensor(pages), length), kept):
        assert torch.equal(found, expected.transpose(0, 1).unsqueeze(0))
    taken = sorted(slots.tolist())
    each = cache.permute(0, 3, 1, 2, 4).flatten(0, 1)
    assert each[taken].isfinite().all()
    assert each[[at for at in range(40 * PAGE) if at not in taken]].isnan().all()


def test_padding_is_written_nowhere():
    cache = torch.full((3, GROUPS, 2, PAGE, SIZE), float("nan"))
    kept = torch.randn(2, 4, GROUPS, SIZE)
    write(cache, slot_indices(torch.tensor([5, -1, 6, -1]), SHAPE), *kept)
    assert torch.equal(cache[1, :, 0, 1:3], kept[0, ::2].transpose(0, 1))
    assert torch.equal(cache[1, :, 1, 1:3], kept[1, ::2].transpose(0, 1))
    assert cache.isfinite().sum() == 2 * 2 * GROUPS * SIZE

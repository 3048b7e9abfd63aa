"""Steps of vLLM's engine, and their pieces as a flash kernel over a paged cache takes them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dca_hub.vllm_plugin.spans import Piece


@dataclass(frozen=True)
class Sequences:
    """Pieces as a flash kernel over a paged cache takes them, one sequence a piece.

    `rows` [M] are the step's rows of the queries, int64; `starts` [P + 1] are where each sequence begins among them,
    `pages` [P, W] the pages of its keys and `lengths` [P] how many keys there are, all int32.
    """

    rows: torch.Tensor
    starts: torch.Tensor
    pages: torch.Tensor
    lengths: torch.Tensor
    longest_query: int
    longest_key: int


def sequences(found: Sequence[Piece], table: torch.Tensor, page_size: int) -> Sequences:
    """The sequences of `found`, at least one, over the pages `table` [requests, pages]: what
    `cuda.layout` does on arrays, to compare with.

    Raises:
        ValueError: a piece begins within a page.
    """
    if any(piece.k_start % page_size for piece in found):
        raise ValueError(f"a chunk must be made of whole pages of {page_size} tokens")
    device = table.device
    queries = [piece.stop - piece.start for piece in found]
    keys = [piece.k_length for piece in found]
    request, first_page = (
        torch.tensor(values, device=device).unsqueeze(1)
        for values in ([piece.request for piece in found], [piece.k_start // page_size for piece in found])
    )
    width = -(-max(keys) // page_size)
    pages = (first_page + torch.arange(width, device=device)).clamp(max=table.shape[1] - 1)  # the rest is never read
    return Sequences(
        torch.cat([torch.arange(piece.start, piece.stop) for piece in found]).to(device),
        torch.tensor([0, *queries]).cumsum(0).to(device, torch.int32),
        table[request, pages].to(torch.int32),
        torch.tensor(keys, dtype=torch.int32, device=device),
        max(queries),
        max(keys),
    )


def some_steps():
    """Steps of up to four requests, some of which have no tokens in them."""
    draw = random.Random(0)
    for _ in range(60):
        queries = [draw.choice((0, 1, 1, 3, 8, 30)) for _ in range(draw.randint(1, 4))]
        starts = [sum(queries[:n]) for n in range(len(queries) + 1)]
        yield starts, [count + draw.choice((0, 5, 8, 16, 17, 40)) for count in queries]

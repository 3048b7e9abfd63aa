"""Perplexity of a text by context length, by one of two definitions.

`last`: the last `stride` tokens of windows that end at the same positions are scored, whatever the context: a sliding
window (Press et al., arXiv 2108.12409) at evenly spaced positions, within one document each, so that all lengths are
measured on the same tokens, each with almost all of the context before it.

`authors`: every token of a window is scored, windows begin every `stride` tokens of one stream of all documents, and
nothing is put before them: the table of DCA's authors, whose script is LongLoRA's. Early tokens of a window have little
context, so that the number is higher than that of `last` on the same text.

Memory stays bounded at any length: text is read in pieces, and logits exist for the scored tokens alone, in pieces too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from dca_hub.errors import DcaHubError, Fix
from dca_hub.evaluation import metrics
from dca_hub.generation import PIECE, PromptCache
from dca_hub.progress import OnProgress

Definition = Literal["authors", "last"]
DEFINITIONS: tuple[Definition, ...] = ("authors", "last")
LOGITS_AT_ONCE = 128  # positions; a large vocabulary makes 75 MB of them


@dataclass(frozen=True)
class Perplexity:
    """The mean over `tokens` scored tokens, and the standard error of its logarithm over windows."""

    context: int
    tokens: int
    nats: float
    error: float

    @property
    def value(self) -> float:
        """The perplexity; infinite where a number cannot hold it."""
        return metrics.perplexity(self.nats)


@dataclass(frozen=True)
class Window:
    """Where scored tokens end: in which document, and after how many of its tokens."""

    document: int
    end: int


def windows_of_stream(size: int, length: int, stride: int, most: int) -> list[Window]:
    """The authors' windows of a stream of `size` tokens: one each `stride` tokens from its beginning on, of `length`
    tokens that are read and as many that are predicted, one further; `end` is behind the last of these.

    most: as for `windows_of_documents`.

    Raises DcaHubError when the stream is not longer than a window.
    """
    ends = range(length + 1, size + 1, max(1, stride))
    if not ends:
        raise _too_short(size, length)
    return _spread([Window(0, end) for end in ends], most)


def windows_of_documents(sizes: Sequence[int], longest: int, stride: int, most: int) -> list[Window]:
    """The windows of documents of `sizes` tokens: one each `stride` tokens from the longest context on.

    Args:
        longest: the longest context, in tokens; a document that is shorter has no windows.
        most: how many are wanted; of more, that many at even distances are taken. 0 takes all.

    Raises DcaHubError when no document is long enough.
    """
    found = [
        Window(number, end) for number, size in enumerate(sizes) for end in range(longest, size + 1, max(1, stride))
    ]
    if not found:
        raise _too_short(max(sizes, default=0), longest)
    return _spread(found, most)


def _too_short(size: int, longest: int) -> DcaHubError:
    return DcaHubError(
        f"The longest text has {size:,} tokens and the longest context {longest:,}",
        "give a longer text",
        Fix("give shorter {}", "lengths"),
    )


def _spread(found: list[Window], most: int) -> list[Window]:
    if not most or len(found) <= most:
        return found
    step = (len(found) - 1) / max(1, most - 1)
    return [found[round(k * step)] for k in range(most)]


def nats(
    model: PreTrainedModel,
    ids: Sequence[int],
    end: int,
    context: int,
    *,
    bos: int | None = None,
    scored: int = 256,
    progress: OnProgress | None = None,
    piece: int = PIECE,
) -> float:
    """The negative log-likelihood, in nats, of the `scored` tokens of `ids` before `end`, `context` tokens in all.

    progress: called with (tokens read, tokens of the window) after each piece; raising from it stops the work.
    """
    window = list(ids[end - context : end]) if bos is None else [bos, *ids[end - context + 1 : end]]
    return _nats(model, window, scored, progress, piece)


def measure(
    model: PreTrainedModel,
    ids: list[int],
    contexts: list[int],
    *,
    bos: int | None = None,
    scored: int = 256,
    windows: int = 20,
    first: int = 0,
    progress: OnProgress | None = None,
    piece: int = PIECE,
) -> list[Perplexity]:
    """Perplexity of `ids` for each context length in tokens, `bos` included where there is one.

    The windows end from the longest context on, or from token `first` if that is later: calls with different contexts
    score the same tokens if `first` is the longest context of all.

    progress: called with (tokens read, tokens in all) after each piece of at most `piece` tokens; raising from it stops
    the work.

    Raises DcaHubError when the text is shorter than the longest context, or a context has no room for scored tokens.
    """
    longest = max(first, *contexts)
    if len(ids) < longest or min(contexts) <= scored:
        raise DcaHubError(f"Contexts must be longer than {scored} and at most the text's {len(ids)} tokens.")
    span = (len(ids) - longest) / max(1, windows - 1)
    ends = sorted({longest + round(k * span) for k in range(windows)})
    found, read, total = [], 0, sum(contexts) * len(ends)
    for context in contexts:
        sums = []
        for end in ends:

            def report(done: int, _: int, read: int = read) -> None:
                if progress:
                    progress(read + done, total)

            sums.append(nats(model, ids, end, context, bos=bos, scored=scored, progress=report, piece=piece))
            read += context
        found.append(mean(context, sums, scored))
    return found


def mean(context: int, sums: Sequence[float], scored: int) -> Perplexity:
    """The perplexity of windows whose `scored` tokens have these negative log-likelihoods, in nats."""
    middle, error = metrics.mean_and_error([value / scored for value in sums])
    return Perplexity(context, scored * len(sums), middle, error)


def _nats(model: PreTrainedModel, window: list[int], scored: int, progress: OnProgress | None, piece: int) -> float:
    first, cache, total = len(window) - scored, PromptCache(model), 0.0

    def report(read: int) -> None:
        if progress:
            progress(read, len(window))

    for done in cache.read(window[:first], piece):
        report(done)
    for start in range(first, len(window), LOGITS_AT_ONCE):
        targets = torch.tensor(window[start : start + LOGITS_AT_ONCE], device=model.device)
        # One token earlier: the token before a target is the one that predicts it.
        logits = cache.forward(window[start - 1 : start - 1 + len(targets)], logits_to_keep=0).float()
        total += F.cross_entropy(logits, targets.to(logits.device), reduction="sum").item()
        report(start + len(targets))
    return total

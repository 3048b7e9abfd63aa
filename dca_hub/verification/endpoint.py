"""Tells from a server's answers whether it runs Dual Chunk Attention or plain attention.

A prompt longer than the chunk is read here with both, by the same weights, and what the server gives its last tokens is
compared with the two. A server may run in another precision, so what counts is which of the two it is near.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dca_hub.documents.example import example_text
from dca_hub.errors import DcaHubError, Fix
from dca_hub.generation import PromptCache
from dca_hub.loading import Loaded, load
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.progress import OnLoadProgress, OnProgress
from dca_hub.serving.client import Endpoint, Refused, Served, as_text, connect

from .checks import Finding, Outcome

SCORED = 64  # tokens at the end of the prompt
TOKENS = 8192  # read at most, where nothing else is asked for
_CHUNKS = 3  # are read where there is room: within two of them, much is as in plain attention
_APART = 0.05  # nats on average: less could be the precisions'
_ROUNDING = 0.15  # nats on average, well above bfloat16's
_NEAR = 1 / 3  # of the way between the two
_WORDS_ASKED = 6


class EndpointCheck(Enum):
    """What is looked at on a server, in this order."""

    MODEL = "the server has this model"
    ATTENTION = "the server runs Dual Chunk Attention"


def verify_endpoint(
    name: str,
    url: str,
    *,
    tokens: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    loading: OnLoadProgress | None = None,
    progress: OnProgress | None = None,
) -> Iterator[Finding]:
    """Checks a server that runs; gives each finding as soon as it is there, one for every `EndpointCheck`.

    Args:
        name: the model that it serves, by catalogue name, Hub id or folder. It is loaded here too, for comparison.
        url: the server's address, with or without /v1.
        tokens: the longest prompt to send; by default `TOKENS`.
        device, dtype: where and how the model runs here, as for `load`.
        loading: told how far loading is, as by `load`.
        progress: told (tokens read, tokens in all) while the model reads here.

    Raises:
        DcaHubError: there is no such model or server, the server has another model, or it cannot be told: it takes no
            prompt longer than a chunk, or answers the same either way.
    """
    served = connect(name, url)
    where = f"{served.endpoint.model!r} at {served.endpoint.url}"
    length = _length(served, tokens)
    yield Finding(EndpointCheck.MODEL, Outcome.PASSED, served.note or f"{where}, up to {served.context:,} tokens")
    ids = probe(served.tokenizer, length)
    loaded = load(name, device=device, dtype=dtype, context=length, progress=loading)
    expected = _expect(loaded, ids, progress)
    if expected.apart < _APART:
        raise DcaHubError(
            f"With {length:,} tokens, Dual Chunk Attention and plain attention differ by {expected.apart:.3f} nats, "
            "which could be rounding",
            Fix("give more {}", "tokens"),
        )
    yield _by_logprobs(served, ids, expected) or _by_words(served, ids, expected)


def probe(tokenizer: PreTrainedTokenizerBase, length: int) -> list[int]:
    """So many tokens of a novel, over and over where it is too short."""
    text = "\n".join(example_text())
    ids = tokenizer(text, verbose=False)["input_ids"]
    while len(ids) < length:
        ids += tokenizer(f"\n{text}", add_special_tokens=False, verbose=False)["input_ids"]
    return ids[:length]


def _length(served: Served, tokens: int | None) -> int:
    """The length of the prompt: `_CHUNKS` chunks where all allow it.

    Raises DcaHubError where it would end before Dual Chunk Attention differs from plain attention.
    """
    geometry, room = served.geometry, served.context - 1  # the answer has one token
    least = _least(geometry)
    if room < least:
        raise DcaHubError(
            f"The server takes {served.context:,} tokens, and up to {least:,} Dual Chunk Attention with chunk_size "
            f"{geometry.chunk_size:,} is plain attention or nearly so: serve the model with a longer context to "
            "tell them apart."
        )
    asked = tokens or TOKENS
    if asked < least:
        raise DcaHubError(
            f"With chunk_size {geometry.chunk_size:,}, {asked:,} tokens are too few to tell Dual Chunk Attention from "
            "plain attention",
            Fix("give {}", "tokens", least),
        )
    return min(max(_CHUNKS * geometry.chunk_length + SCORED, least), asked, room)


def _least(geometry: DualChunkGeometry) -> int:
    """The shortest prompt all of whose scored tokens see keys from elsewhere than in plain attention."""
    return geometry.chunk_size + geometry.local_size + 2 * SCORED


@dataclass(frozen=True)
class _Expected:
    """What the model gives each scored token, in nats [SCORED], and what it would write in its place [SCORED]: with
    Dual Chunk Attention and with plain attention."""

    dca: torch.Tensor
    plain: torch.Tensor
    dca_words: torch.Tensor
    plain_words: torch.Tensor

    @property
    def apart(self) -> float:
        return (self.dca - self.plain).abs().mean().item()


def _expect(loaded: Loaded, ids: list[int], progress: OnProgress | None) -> _Expected:
    found = []
    for number, model in enumerate((loaded.model, loaded.base)):
        for done in _read(model, ids, found):
            if progress:
                progress(number * len(ids) + done, 2 * len(ids))
    return _Expected(found[0][0], found[1][0], found[0][1], found[1][1])


def _read(model: PreTrainedModel, ids: list[int], found: list[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[int]:
    """Appends the log-probabilities of the scored tokens, and the best tokens in their place."""
    cache, first = PromptCache(model), len(ids) - SCORED
    yield from cache.read(ids[:first])
    logits = cache.forward(ids[first - 1 : -1], logits_to_keep=0).float().cpu()
    scored = logits.log_softmax(-1).gather(1, torch.tensor(ids[first:]).unsqueeze(1))[:, 0]
    found.append((scored, logits.argmax(-1)))
    yield len(ids)


def _by_logprobs(served: Served, ids: list[int], expected: _Expected) -> Finding | None:
    """The finding from the log-probabilities of the prompt; None from a server that gives none."""
    given = _prompt_logprobs(served, ids)
    if given is None:
        return None
    found = torch.tensor(given[-SCORED:])
    from_dca, from_plain = ((found - one).abs().mean().item() for one in (expected.dca, expected.plain))
    words = (
        f"the log-probabilities of the last {SCORED} of {len(ids):,} tokens are on average {from_dca:.3f} nats from "
        f"Dual Chunk Attention and {from_plain:.3f} from plain attention, which are {expected.apart:.3f} apart"
    )
    if from_dca > _ROUNDING:
        words += "; that is more than rounding makes: it may have other chunk sizes, or quantized weights"
    near = _NEAR * expected.apart
    return _judged(from_dca <= near, from_plain <= near, words)


def _by_words(served: Served, ids: list[int], expected: _Expected) -> Finding:
    """The finding from the words that the server writes where the two would write different ones.

    Raises DcaHubError where there are too few such places.
    """
    places = _places(served.tokenizer, ids, expected)
    if len(places) < _WORDS_ASKED:
        raise DcaHubError(
            "The server gives no log-probabilities of a prompt, and Dual Chunk Attention and plain attention write the "
            "same words in almost every place",
            Fix("give more {}", "tokens"),
        )
    like_dca = like_plain = 0
    for place in places[:_WORDS_ASKED]:
        answer = _ask(served, ids[: len(ids) - SCORED + place], {})
        word = str(answer["text"])
        like_dca += word.strip() == _word(served.tokenizer, expected.dca_words[place]).strip()
        like_plain += word.strip() == _word(served.tokenizer, expected.plain_words[place]).strip()
    words = (
        f"the server gives no log-probabilities of a prompt; of {_WORDS_ASKED} words that it writes after about "
        f"{len(ids):,} tokens, {like_dca} are those of Dual Chunk Attention and {like_plain} those of plain attention"
    )
    return _judged(like_dca >= _WORDS_ASKED - 1, like_plain >= _WORDS_ASKED - 1, words)


def _judged(is_dca: bool, is_plain: bool, words: str) -> Finding:
    if is_dca:
        return Finding(EndpointCheck.ATTENTION, Outcome.PASSED, words)
    if is_plain:
        fix = "it runs plain attention: serve the model with `dca-hub serve`, or install the plug-in beside vLLM"
    else:
        fix = "it runs neither: its weights, chunk sizes or precision differ"
    return Finding(EndpointCheck.ATTENTION, Outcome.FAILED, f"{fix} ({words})")


def _places(tokenizer: PreTrainedTokenizerBase, ids: list[int], expected: _Expected) -> list[int]:
    """The scored tokens in whose place the two write different words, and whose prompt survives being sent as text."""
    first = len(ids) - SCORED
    return [
        place
        for place, (dca, plain) in enumerate(zip(expected.dca_words, expected.plain_words))
        if _word(tokenizer, dca).strip() != _word(tokenizer, plain).strip()
        and tokenizer(as_text(tokenizer, ids[: first + place]), verbose=False)["input_ids"] == ids[: first + place]
    ]


def _word(tokenizer: PreTrainedTokenizerBase, token: torch.Tensor) -> str:
    return str(tokenizer.decode([int(token)], skip_special_tokens=True))


def _prompt_logprobs(served: Served, ids: list[int]) -> list[float] | None:
    """What the server gives each token of the prompt but the first: by OpenAI's `echo`, or by vLLM's option."""
    ways = (
        ({"echo": True, "logprobs": 1}, lambda choice: (choice["logprobs"]["token_logprobs"])[: len(ids)]),
        ({"prompt_logprobs": 0}, lambda choice: _of_tokens(choice["prompt_logprobs"], ids)),
    )
    for options, read in ways:
        try:
            given: list[Any] = read(_ask(served, ids, options))[1:]
            if len(given) == len(ids) - 1:
                return [float(value) for value in given]
        except (Refused, KeyError, TypeError, ValueError):
            continue
    return None


def _of_tokens(given: Sequence[dict[str, Any] | None], ids: list[int]) -> list[Any]:
    return [at and at[str(token)]["logprob"] for at, token in zip(given, ids, strict=True)]


def _ask(served: Served, ids: list[int], options: dict[str, Any]) -> dict[str, Any]:
    """The first choice of a completion of one token; the prompt is sent as token ids, or as text to a server that takes
    none."""
    endpoint: Endpoint = served.endpoint
    body = {"max_tokens": 1, "temperature": 0, **options}
    try:
        answer = endpoint.answer({"prompt": ids, **body})
    except Refused as refused:
        if not refused.may_want_text:
            raise
        answer = endpoint.answer({"prompt": as_text(served.tokenizer, ids), **body})
    try:
        return answer["choices"][0]
    except (KeyError, IndexError, TypeError):
        raise DcaHubError(f"What answers at {endpoint.url} gives no completion: it is not an OpenAI server.") from None

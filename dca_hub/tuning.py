"""Chooses a model's chunk size, window and temperature by the perplexity that they give on a text, or by the pass keys
that are found in it."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from transformers import PreTrainedModel

from dca_hub.control_tokens import ControlTokens, encode, opening_tokens
from dca_hub.errors import DcaHubError, Fix
from dca_hub.evaluation import needle, perplexity
from dca_hub.evaluation.grid import Grid
from dca_hub.extending import extend
from dca_hub.loading import Loaded
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry

# C and w as parts of L. The authors' rule comes first, so that it stays where nothing is better.
_PARTS = ((3 / 4, None), (15 / 16, 1 / 16), (15 / 16, 1 / 8), (1, 1 / 8), (1 / 2, 1 / 16))
_TEMPERATURES = (0.03, 0.06, 0.1)
SCORED, WINDOWS, TIMES = 256, 4, 4
By = Literal["perplexity", "keys"]
_DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Tried:
    """Sizes, and what they give `by` tokens of context: the perplexity of the text, or the share of the pass keys in it
    that is found."""

    geometry: DualChunkGeometry
    by: By
    at: dict[int, float]

    @property
    def loss(self) -> float:
        """What is least for the best sizes, each context counting alike: the mean loss in nats a token, or the share of
        pass keys that is missed."""
        one = math.log if self.by == "perplexity" else lambda share: 1 - share
        return sum(map(one, self.at.values())) / len(self.at)

    def to_line(self) -> str:
        values: dict[str, Any] = {**asdict(self.geometry), self.by: self.at}
        return json.dumps(values) + "\n"


def candidates(known: DualChunkGeometry) -> list[DualChunkGeometry]:
    """Sizes to try for a model, its present ones first; w is at least 1 token and every chunk longer than w."""
    trained, found = known.pretraining_length, [replace(known, temperature=0.0)]
    for chunk, window in _PARTS[1:]:
        size = min(trained - 1, round(chunk * trained))
        made = DualChunkGeometry(size, max(1, min(size - 1, round(window * trained))), trained)
        if made not in found:
            found.append(made)
    return found


def tune(
    loaded: Loaded,
    texts: Sequence[str],
    *,
    by: By = "perplexity",
    times: int = TIMES,
    windows: int = WINDOWS,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Tried]:
    """Measures sizes first and then temperatures for the best of them; each result as soon as it is there. Of equals
    the earlier one is to be kept.

    Args:
        texts: documents, the longest of them longer than `times` trained lengths. The sizes fit these texts: report
            others.
        by: what decides. The sizes that give the least perplexity need not find the most keys.
        times: the longest context, in trained lengths; 1 and half of it are measured as well.
        windows: how many windows of SCORED tokens, evenly spread over the texts; of perplexity.
        progress: told (tokens read, tokens in all); what it raises ends the work and passes through.

    Raises:
        DcaHubError: the texts are too short, or no sizes find a key.
    """
    if loaded.geometry is None:
        raise DcaHubError("The model was loaded without Dual Chunk Attention: load the DCA model to choose its sizes.")
    trained = loaded.geometry.pretraining_length
    contexts = sorted({trained, max(1, times // 2) * trained, times * trained})
    measure = _Keys(loaded, texts, contexts) if by == "keys" else _Perplexity(loaded, texts, contexts, windows)
    sizes, done = candidates(loaded.geometry), 0
    total = measure.tokens * (len(sizes) + len(_TEMPERATURES))

    def measured(geometry: DualChunkGeometry) -> Tried:
        nonlocal done
        before = done

        def tell(read: int) -> None:
            if progress:
                progress(before + read, total)

        found = measure(extend(loaded.base, **asdict(geometry)), tell)
        done += measure.tokens
        tell(measure.tokens)
        return Tried(geometry, by, found)

    tried = []
    for geometry in sizes:
        tried.append(measured(geometry))
        yield tried[-1]
    best = min(tried, key=lambda one: one.loss)
    if by == "keys" and not any(best.at.values()):
        raise DcaHubError("No sizes make this model find a pass key in that text", Fix("leave {} out", "tune_by"))
    for temperature in _TEMPERATURES:
        yield measured(replace(best.geometry, temperature=temperature))


class _Perplexity:
    """The perplexity of windows of texts, by context. `tokens` are read for it."""

    def __init__(self, loaded: Loaded, texts: Sequence[str], contexts: Sequence[int], windows: int):
        controls = ControlTokens(loaded.tokenizer)
        self.ids = [encode(loaded.tokenizer, controls.defused(text)) for text in texts]
        self.contexts = contexts
        self.chosen = perplexity.windows_of_documents([len(one) for one in self.ids], contexts[-1], SCORED, windows)
        self.bos = next(iter(opening_tokens(loaded.tokenizer)), None)
        self.tokens = sum(contexts) * len(self.chosen)

    def __call__(self, model: PreTrainedModel, tell: Callable[[int], None]) -> dict[int, float]:
        found, done = {}, 0
        for context in self.contexts:
            nats = 0.0
            for window in self.chosen:
                nats += perplexity.nats(
                    model, self.ids[window.document], window.end, context, bos=self.bos, scored=SCORED,
                    progress=lambda read, _, before=done: tell(before + read),
                )  # fmt: skip
                done += context
            found[context] = math.exp(nats / (SCORED * len(self.chosen)))
        return found


class _Keys:
    """The share of the pass keys in the texts that a model finds, by context, asked for as `needle` does."""

    def __init__(self, loaded: Loaded, texts: Sequence[str], contexts: Sequence[int]):
        self.tokenizer, self.text = loaded.tokenizer, "\n\n".join(texts)
        self.grid = Grid(tuple(contexts), _DEPTHS, haystack="the texts")
        self.tokens = sum(contexts) * len(_DEPTHS)

    def __call__(self, model: PreTrainedModel, tell: Callable[[int], None]) -> dict[int, float]:
        found, done = dict.fromkeys(self.grid.lengths, 0.0), 0

        def read(now: int, _: int) -> None:
            tell(done + now)

        options = {"name": "tuned", "dca": True, "text": self.text, "progress": read}
        for one in needle.run(model, self.tokenizer, self.grid, **options):
            found[one.length] += one.found / len(_DEPTHS)
            done += one.length
        return found

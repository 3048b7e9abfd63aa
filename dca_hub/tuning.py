"""Chooses a model's chunk size, window and temperature by the perplexity that they give on a text."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dca_hub.control_tokens import ControlTokens, encode, opening_tokens
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import perplexity
from dca_hub.extending import extend
from dca_hub.loading import Loaded
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry

# C and w as parts of L. The authors' rule comes first, so that it stays where nothing is better.
_PARTS = ((3 / 4, None), (15 / 16, 1 / 16), (15 / 16, 1 / 8), (1, 1 / 8), (1 / 2, 1 / 16))
_TEMPERATURES = (0.03, 0.06, 0.1)
SCORED, WINDOWS, TIMES = 256, 4, 4


@dataclass(frozen=True)
class Tried:
    """Sizes, and the perplexity of the text with them, by tokens of context."""

    geometry: DualChunkGeometry
    perplexity: dict[int, float]

    @property
    def loss(self) -> float:
        """The mean loss over the contexts, in nats a token: each counts alike."""
        return sum(map(math.log, self.perplexity.values())) / len(self.perplexity)

    def to_line(self) -> str:
        values: dict[str, Any] = {**asdict(self.geometry), "perplexity": self.perplexity}
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
    times: int = TIMES,
    windows: int = WINDOWS,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Tried]:
    """Measures sizes first and then temperatures for the best of them; each result as soon as it is there.

    Args:
        texts: documents, the longest of them longer than `times` trained lengths. The sizes fit these texts: report
            others.
        times: the longest context, in trained lengths; 1 and half of it are measured as well.
        windows: how many windows of SCORED tokens, evenly spread over the texts.
        progress: told (tokens read, tokens in all); what it raises ends the work and passes through.

    Raises:
        DcaHubError: the texts are too short.
    """
    if loaded.geometry is None:
        raise DcaHubError("The model was loaded without Dual Chunk Attention: load the DCA model to choose its sizes.")
    trained = loaded.geometry.pretraining_length
    contexts = sorted({trained, max(1, times // 2) * trained, times * trained})
    controls = ControlTokens(loaded.tokenizer)
    ids = [encode(loaded.tokenizer, controls.defused(text)) for text in texts]
    chosen = perplexity.windows_of_documents([len(one) for one in ids], contexts[-1], SCORED, windows)
    sizes, bos = candidates(loaded.geometry), next(iter(opening_tokens(loaded.tokenizer)), None)
    each = sum(contexts) * len(chosen)
    total, done = each * (len(sizes) + len(_TEMPERATURES)), 0

    def measured(geometry: DualChunkGeometry) -> Tried:
        nonlocal done
        model, found = extend(loaded.base, **asdict(geometry)), {}
        for context in contexts:
            nats = 0.0
            for window in chosen:

                def tell(read: int, _: int, before: int = done) -> None:
                    if progress:
                        progress(before + read, total)

                nats += perplexity.nats(
                    model, ids[window.document], window.end, context, bos=bos, scored=SCORED, progress=tell
                )
                done += context
            found[context] = math.exp(nats / (SCORED * len(chosen)))
        return Tried(geometry, found)

    tried = []
    for geometry in sizes:
        tried.append(measured(geometry))
        yield tried[-1]
    best = min(tried, key=lambda one: one.loss)
    for temperature in _TEMPERATURES:
        yield measured(replace(best.geometry, temperature=temperature))

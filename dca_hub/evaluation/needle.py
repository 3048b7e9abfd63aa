"""Needle in a haystack over a grid: every context length with every depth, several trials a cell.

A number is hidden in a long text and asked for (`passkey`); a cell's score is the share of trials that give it back
exactly. The trials of a run are JSON lines that any page or command can show, and go on from.
"""

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dca_hub import json_lines, thoughts
from dca_hub.control_tokens import encode
from dca_hub.documents.example import PASS_KEY_SENTENCE, example_text
from dca_hub.errors import DcaHubError, Fix
from dca_hub.evaluation import passkey, runs
from dca_hub.evaluation.grid import Grid, Style
from dca_hub.evaluation.passkey import ANSWER_ROOM, Haystack, Maker, Pairs, Prompt, Wording
from dca_hub.evaluation.prompting import has_chat_format, require_chat_format
from dca_hub.generation import PIECE, PromptCache, Sampling, decode, generate_together
from dca_hub.progress import OnProgress
from dca_hub.prompts import Prompter
from dca_hub.schema import build

# The filler of Mohtashami and Jaggi, arXiv 2305.16300.
GRASS = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
_FIX = "give the file that a run of the needle test has written"
_AROUND = 240  # characters of a prompt that are shown on each side of the needle


@dataclass(frozen=True)
class Trial:
    """One trial. `around` is the prompt near the needle; `seconds` what reading and answering took."""

    model: str
    dca: bool
    haystack: str
    seed: int
    length: int
    depth: float
    trial: int
    key: str
    answer: str
    found: bool
    around: str
    seconds: float

    @property
    def trial_key(self) -> tuple[int, float, int]:
        """What tells a trial from the others of its grid; see `Grid.trial_keys`."""
        return self.length, self.depth, self.trial

    @property
    def identity(self) -> tuple:
        """What tells a trial from all others."""
        return (self.model, self.dca, self.haystack, self.seed, *self.trial_key)


def haystack_text(kind: str, own: str = "") -> str:
    """The text of a haystack, once through: prose (a novel), grass, or `own` for any other kind.

    Raises DcaHubError when there is none.
    """
    if kind == "grass":
        return GRASS
    if kind == "prose":
        return "\n\n".join(line.removeprefix("# ") for line in example_text() if PASS_KEY_SENTENCE not in line)
    if not own.strip():
        raise DcaHubError("The haystack is empty: paste a text, or choose prose or grass.")
    return own.strip()


def build_haystack(
    tokenizer: PreTrainedTokenizerBase, text: str, longest: int, needles: int = 1, style: Style = "plain"
) -> Haystack:
    """`text` as tokens, repeated until it is long enough to cut `longest` tokens out of it in many places."""
    once = max(1, len(encode(tokenizer, text)))
    times = 1 + -(-longest * 5 // (4 * once)) if once < longest * 5 // 4 else 1
    return Haystack(tokenizer, (" " if text == GRASS else "\n\n").join([text] * times), needles, style)


def style_of(tokenizer: PreTrainedTokenizerBase, grid: Grid) -> Style:
    """The style of a grid's prompts: the chat format where there is one, if the grid leaves it open."""
    return grid.style or ("chat" if has_chat_format(tokenizer) else "plain")


def settings(tokenizer: PreTrainedTokenizerBase, grid: Grid) -> dict[str, Any]:
    """What the trials of a grid depend on beside their places; how the key is asked for is among it."""
    style = style_of(tokenizer, grid)
    about = {"haystack": grid.haystack, "seed": grid.seed, "needles": grid.needles, "style": style}
    if grid.haystack == "pairs":
        return about
    wording = passkey.usual_wording(tokenizer, style, grid.needles)
    parts = (wording.task, "...", wording.question, wording.begun)
    return {**about, "asked": " ".join(" ".join(parts).split())}


def prompts(tokenizer: PreTrainedTokenizerBase, grid: Grid, text: str = "") -> Maker:
    """What the prompts of a grid are cut out of. `text` is the haystack, where the grid's is one's own.

    Raises DcaHubError for an empty text, several needles among pairs, or a chat format that the model has not.
    """
    style = style_of(tokenizer, grid)
    if style == "chat":
        require_chat_format(tokenizer)
    if grid.haystack != "pairs":
        text = haystack_text(grid.haystack, text)
        return build_haystack(tokenizer, text, max(grid.lengths), grid.needles, style)
    if grid.needles != 1:
        raise DcaHubError(
            "Keys and values are many needles already",
            Fix("leave {} out", "needles"),
            Fix("choose another {}", "haystack"),
        )
    return Pairs(tokenizer, style)


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    grid: Grid,
    *,
    name: str,
    dca: bool,
    text: str = "",
    done: Iterable[Trial] = (),
    wording: Wording | None = None,
    progress: OnProgress | None = None,
) -> Iterator[Trial]:
    """The trials of the grid that are not among `done`, short ones first, each when it is finished.

    name, dca: how the model is called in the trials. text: the haystack, where the grid's is one's own.
    progress: called with (tokens read, tokens of this prompt) after each piece; raising from it stops the work.
    The prompts depend on the grid alone, so that two models are asked the same.
    """
    known = {trial.identity for trial in done}
    maker = prompts(tokenizer, grid, text)
    for length, depth, trial in grid.trial_keys():
        if (name, dca, grid.haystack, grid.seed, length, depth, trial) in known:
            continue
        asked = ask(model, maker, grid.seed, (length, depth, trial), wording=wording, progress=progress)
        yield Trial(name, dca, grid.haystack, grid.seed, length, depth, trial, *asked)


class Asked(NamedTuple):
    """What one prompt gave; the last fields of a `Trial`."""

    key: str
    answer: str
    found: bool
    around: str
    seconds: float


def ask(
    model: PreTrainedModel,
    maker: Maker,
    seed: int,
    trial_key: tuple[int, float, int],
    *,
    wording: Wording | None = None,
    progress: OnProgress | None = None,
    piece: int | None = None,
) -> Asked:
    """One prompt, at (length, depth, trial) of a grid, and the answer to it.

    piece: tokens that are read at a time; by default as many as keep a stop within reach.
    """
    prompt, started = _prompt(maker, seed, trial_key, wording), time.monotonic()
    cache = PromptCache(model)
    for done in cache.read(prompt.ids, piece):
        if progress:
            progress(done, len(prompt.ids))
    written = cache.generate(prompt.ids, Sampling(_room(maker)))
    return _asked(model, maker, prompt, written, time.monotonic() - started)


def ask_together(
    model: PreTrainedModel,
    maker: Maker,
    seed: int,
    places: Sequence[tuple[int, float, int]],
    *,
    progress: OnProgress | None = None,
    piece: int = PIECE,
) -> list[Asked]:
    """The same for several places of one length, read and answered in one batch; `seconds` are of its share."""
    if len(places) == 1:
        return [ask(model, maker, seed, places[0], progress=progress, piece=piece)]
    asked, started = [_prompt(maker, seed, place, None) for place in places], time.monotonic()
    ids = [prompt.ids for prompt in asked]
    written = generate_together(model, ids, Sampling(_room(maker)), piece=piece, progress=progress)
    seconds = (time.monotonic() - started) / len(places)
    return [_asked(model, maker, prompt, row, seconds) for prompt, row in zip(asked, written, strict=True)]


def _prompt(maker: Maker, seed: int, place: tuple[int, float, int], wording: Wording | None) -> Prompt:
    length, depth, trial = place
    return maker.prompt(length, depth, random.Random(f"{seed} {length} {depth} {trial}"), wording)


def _thinks(maker: Maker) -> bool:
    return maker.style == "chat" and Prompter(maker.tokenizer).thinks


def _room(maker: Maker) -> int:
    return ANSWER_ROOM + (thoughts.ROOM if _thinks(maker) else 0)


def _asked(model: PreTrainedModel, maker: Maker, prompt: Prompt, written: list[int], seconds: float) -> Asked:
    answer = decode(model, maker.tokenizer, written)
    if _thinks(maker):
        answer = thoughts.separate(answer, Prompter(maker.tokenizer).opens_thoughts).answer
    found = passkey.is_found(prompt.key, answer)
    return Asked(prompt.key, answer.strip(), found, _surroundings(maker.tokenizer, prompt), round(seconds, 3))


def _surroundings(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
    text = tokenizer.decode(prompt.ids, skip_special_tokens=True)
    at = text.find(prompt.key)
    start, stop = max(0, at - _AROUND), min(len(text), at + _AROUND)
    return ("… " if start else "") + text[start:stop].strip() + (" …" if stop < len(text) else "")


def scores(trials: Iterable[Trial]) -> dict[tuple[int, float], float]:
    """The share of trials that found the key, 0 to 1, by (length, depth)."""
    cells: dict[tuple[int, float], list[bool]] = {}
    for trial in trials:
        cells.setdefault((trial.length, trial.depth), []).append(trial.found)
    return {cell: sum(found) / len(found) for cell, found in cells.items()}


def from_text(text: str, name: str = "the file") -> list[Trial]:
    """Trials out of JSON lines; a last line that was cut off in the middle is left out, and so is what a run of the
    command line has beside the DCA model and the plain one.

    Raises DcaHubError for a file of another format, and for anything else that is not a trial.
    """
    found = []
    for where, value in json_lines.parse(text, name, _FIX, torn=True):
        if runs.is_header(value):
            runs.check_header(value, where)
        elif value.get("variant", "DCA") in ("DCA", "plain"):
            found.append(build(Trial, value, where, lenient=True, fix=_FIX))
    return found


def cell(trials: Sequence[Trial], length: int, depth: float) -> list[Trial]:
    """The trials of one cell, in order."""
    return sorted((r for r in trials if r.length == length and r.depth == depth), key=lambda r: r.trial)

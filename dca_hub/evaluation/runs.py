"""The file of a run: JSON lines, a header and then samples, each written as soon as it is measured.

A header is an object with the key `run`; it says what was measured, of which model, with which settings and versions,
and holds for the samples below it. A run that goes on adds a header of its own, so each sample stands below what made
it. A file may hold several runs, one after another, and files may be joined.

| key of a header | value |
|---|---|
| `run` | the version of this format, 2 |
| `task` | `perplexity`, `passkey`, `needle`, or the name of a task of `evaluate` |
| `model` | what the base is called: its Hub id, or the catalogue's name |
| `revision` | its commit on the Hub, or null |
| `trained` | L, the tokens that it was trained at |
| `variants` | what was compared, by name: `dca`, and `dual_chunk_attention_config`, `rope_parameters`, `relations` |
| `settings` | everything else that the samples depend on |
| `versions`, `device`, `dtype`, `processes`, `command`, `date` | what it ran on |

A sample has `variant` and `length` (tokens of context), more keys of `SAMPLE_KEY`, which tell it from all others of its
run, and what was measured.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dca_hub import json_lines
from dca_hub.errors import DcaHubError

FORMAT = 2
_FIX = "give a file that the evaluation wrote"
# In the order of a file: first what a table has columns for.
SAMPLE_KEY = ("variant", "length", "document", "end", "depth", "trial", "id")
# What two headers of one run have in common.
SAME = ("task", "model", "revision", "trained", "settings", "dtype")
_HEADER = {"task": str, "model": str, "trained": int, "variants": dict, "settings": dict}

Header = dict[str, Any]
Sample = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run: its last header, with the variants of all, and its samples in order of their keys."""

    header: Header
    samples: tuple[Sample, ...]

    @property
    def task(self) -> str:
        return self.header["task"]

    @property
    def variants(self) -> list[str]:
        """The names of what was compared, of those that have samples."""
        present = {sample["variant"] for sample in self.samples}
        return [name for name in self.header["variants"] if name in present]

    def of(self, variant: str) -> list[Sample]:
        return [sample for sample in self.samples if sample["variant"] == variant]

    @property
    def lengths(self) -> list[int]:
        return sorted({sample["length"] for sample in self.samples})


def sample_key(sample: Sample) -> tuple:
    """What tells a sample from all others of its run."""
    return tuple(sample.get(key) for key in SAMPLE_KEY)


def is_run(path: Path) -> bool:
    """Whether a file begins with a header."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return is_header(json.loads(file.readline()))
    except (OSError, ValueError):
        return False


def read(path: Path) -> list[Run]:
    """The runs in a file; of two samples with one key the later counts. A last line that was cut off is left out.

    Raises DcaHubError naming the line that is neither a header nor a sample.
    """
    text = json_lines.read_text(path, "results")
    found: dict[str, tuple[Header, dict]] = {}
    header: Header | None = None
    for where, value in json_lines.parse(text, path.name, _FIX, torn=True):
        if is_header(value):
            check_header(value, where)
            header, samples = _joined(found, value)
        elif header is None:
            raise DcaHubError(
                f"{path.name!r} has no header line that says what was measured: give a file that a run of "
                "`dca-hub perplexity`, `passkey`, `needle` or `evaluate` wrote."
            )
        else:
            _check_sample(value, header, where)
            samples[sample_key(value)] = value
    if not found:
        raise DcaHubError(f"{path.name!r} holds no results: {_FIX}.")
    return [assemble(header, samples) for header, samples in found.values()]


def _joined(found: dict, header: Header) -> tuple[Header, dict]:
    """The header with what is known of its run already, and the run's samples."""
    key = json.dumps([header.get(name) for name in SAME], sort_keys=True)
    before, samples = found.get(key, ({}, {}))
    header = {**header, "variants": {**before.get("variants", {}), **header["variants"]}}
    found[key] = header, samples
    return header, samples


def assemble(header: Header, samples: dict) -> Run:
    """A run out of its header and its samples by key."""
    names = list(header["variants"])

    def order(sample: Sample) -> tuple:
        return names.index(sample["variant"]), [_sortable(value) for value in sample_key(sample)[1:]]

    return Run(header, tuple(sorted(samples.values(), key=order)))


def _sortable(value: Any) -> tuple:
    """Numbers as numbers, words as words, and what is missing first."""
    is_word = isinstance(value, str)
    return value is not None, is_word, 0 if is_word or value is None else value, value if is_word else ""


def is_header(value: Any) -> bool:
    return isinstance(value, dict) and "run" in value


def check_header(value: Header, where: str) -> None:
    """Raises DcaHubError for a header of another format, or one that lacks a key."""
    if value["run"] == 1:
        raise DcaHubError(
            f"{where}: format 1 was written by a version whose generated answers were wrong after their first token: "
            "measure again, into another file."
        )
    if value["run"] != FORMAT:
        raise DcaHubError(f"{where}: expected format {FORMAT}, got {value['run']!r}: update dca_hub, or measure again.")
    for key, kind in _HEADER.items():
        if not isinstance(value.get(key), kind):
            raise DcaHubError(
                f"{where}: {key!r} is missing or of the wrong type: give a file that the evaluation wrote."
            )


def _check_sample(value: Sample, header: Header, where: str) -> None:
    if value.get("variant") not in header["variants"]:
        raise DcaHubError(f"{where}: {value.get('variant')!r} is not one of the variants of this run.")
    if not isinstance(value.get("length"), int) or value["length"] < 1:
        raise DcaHubError(f"{where}: length must be a positive number of tokens, not {value.get('length')!r}.")


def to_lines(run: Run) -> str:
    """A run as the lines of a file."""
    return "".join(json_lines.line(value) for value in (run.header, *run.samples))

"""The file of a run: JSON lines, a header and then samples, each written as soon as it is measured.

A header is an object with the key `run`; it says what was measured, of which model, with which settings and versions,
and holds for the samples below it. A run that goes on adds a header of its own, so each sample stands below what made
it. A file may hold several runs, one after another, and files may be joined.

| key of a header | value |
|---|---|
| `run` | the version of this format, 1 |
| `task` | `perplexity`, `passkey`, `needle`, or the name of a task of `evaluate` |
| `model` | what the base is called: its Hub id, or the catalogue's name |
| `revision` | its commit on the Hub, or null |
| `trained` | L, the tokens that it was trained at |
| `variants` | what was compared, by name: `dca`, and `dual_chunk_attention_config`, `rope_parameters`, `relations` |
| `settings` | everything else that the samples depend on |
| `versions`, `device`, `dtype`, `processes`, `command`, `date` | what it ran on |

A sample has `variant` and `length` (tokens of context), more keys of `PLACE`, which tell it from all others of its
run, and what was measured.
"""

import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dca_hub.errors import UserError

FORMAT = 1
# In the order of a file: first what a table has columns for.
PLACE = ("variant", "length", "document", "end", "depth", "trial", "id")
_SAME = ("task", "model", "revision", "trained", "settings", "dtype")
_HEADER = {"task": str, "model": str, "trained": int, "variants": dict, "settings": dict}

Header = dict[str, Any]
Sample = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run: its last header, with the variants of all, and its samples in order of their places."""

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


def place(sample: Sample) -> tuple:
    """What tells a sample from all others of its run."""
    return tuple(sample.get(key) for key in PLACE)


def is_run(path: Path) -> bool:
    """Whether a file begins with a header."""
    try:
        with path.open(encoding="utf-8") as file:
            return _is_header(json.loads(file.readline()))
    except (OSError, ValueError):
        return False


def read(path: Path) -> list[Run]:
    """The runs in a file; of two samples of one place the later counts. A last line that was cut off is left out.

    Raises UserError naming the line that is neither a header nor a sample.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The results {path.name!r} cannot be read: {error}.") from None
    found: dict[str, tuple[Header, dict]] = {}
    header: Header | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        value = _parse(line, f"{path.name}, line {number}", last=number == len(lines))
        if value is None:
            break
        if _is_header(value):
            _check_header(value, f"{path.name}, line {number}")
            header, samples = _joined(found, value)
        elif header is None:
            raise UserError(
                f"{path.name!r} does not begin with the line that says what was measured: give a file that a run of "
                "`dca-hub perplexity`, `passkey`, `needle` or `evaluate` wrote."
            )
        else:
            _check_sample(value, header, f"{path.name}, line {number}")
            samples[place(value)] = value
    if not found:
        raise UserError(f"{path.name!r} holds no results: give a file that the evaluation wrote.")
    return [_run(header, samples) for header, samples in found.values()]


def _joined(found: dict, header: Header) -> tuple[Header, dict]:
    """The header with what is known of its run already, and the run's samples."""
    key = json.dumps([header.get(name) for name in _SAME], sort_keys=True)
    before, samples = found.get(key, ({}, {}))
    header = {**header, "variants": {**before.get("variants", {}), **header["variants"]}}
    found[key] = header, samples
    return header, samples


def _run(header: Header, samples: dict) -> Run:
    names = list(header["variants"])

    def order(sample: Sample) -> tuple:
        return names.index(sample["variant"]), [_sortable(value) for value in place(sample)[1:]]

    return Run(header, tuple(sorted(samples.values(), key=order)))


def _sortable(value: Any) -> tuple:
    """Numbers as numbers, words as words, and what is missing first."""
    is_word = isinstance(value, str)
    return value is not None, is_word, 0 if is_word or value is None else value, value if is_word else ""


def _is_header(value: Any) -> bool:
    return isinstance(value, dict) and "run" in value


def _parse(line: str, where: str, last: bool) -> dict | None:
    try:
        value = json.loads(line)
    except ValueError:
        if last:  # the machine died in the middle of it
            return None
        raise UserError(f"{where} is not JSON: give a file that the evaluation wrote.") from None
    if not isinstance(value, dict):
        raise UserError(f"{where} is not a JSON object: give a file that the evaluation wrote.")
    return value


def _check_header(value: Header, where: str) -> None:
    if value["run"] != FORMAT:
        raise UserError(f"{where}: this file is of format {value['run']!r}, and {FORMAT} is read here: measure again.")
    for key, kind in _HEADER.items():
        if not isinstance(value.get(key), kind):
            raise UserError(f"{where}: {key!r} is missing or of a wrong kind: give a file that the evaluation wrote.")


def _check_sample(value: Sample, header: Header, where: str) -> None:
    if value.get("variant") not in header["variants"]:
        raise UserError(f"{where}: {value.get('variant')!r} is none of the variants of this run.")
    if not isinstance(value.get("length"), int) or value["length"] < 1:
        raise UserError(f"{where}: length must be a positive number of tokens, not {value.get('length')!r}.")


class Log:
    """A file that a run is written to, and goes on from.

    With several processes each writes a file of its own beside it, which the first joins to it at the end, or at the
    next start if there was none.

    Args:
        path: the file, or None to keep everything in memory.
        header: what this run measures.
        rank, count: which of how many processes this is.

    Raises:
        UserError: the file holds a run of something else, or cannot be written.
    """

    def __init__(self, path: Path | None, header: Header, rank: int = 0, count: int = 1):
        if path is None and count > 1:
            raise UserError("Several processes need a file to put their results together: give --out FILE.jsonl.")
        self.path, self.header, self.rank, self.count = path, header, rank, count
        self._memory: dict[tuple, Sample] = {}
        self._begun = False

    def begin(self) -> None:
        """Puts together what earlier runs have left; by the first process, while the others wait."""
        if self.path is not None and self.rank == 0:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _mend(self.path)
                self._join_parts()
            except OSError as error:
                raise UserError(
                    f"{self.path.name!r} cannot be written ({error.strerror}): choose another --out."
                ) from None

    def known(self) -> dict[tuple, Sample]:
        """The samples that are there already, by place. Raises UserError for a file of another run."""
        if self.path is None or not self.path.is_file() or not self.path.stat().st_size:
            return dict(self._memory)
        known: dict[tuple, Sample] = {}
        for run in read(self.path):
            self._refuse_other(run.header)
            known |= {place(sample): sample for sample in run.samples}
        return known

    def add(self, sample: Sample) -> None:
        """Writes a sample down."""
        self._memory[place(sample)] = sample
        if self.path is None:
            return
        with self._mine.open("a", encoding="utf-8") as file:
            if not self._begun:
                file.write(_line(self.header))
                self._begun = True
            file.write(_line(sample))

    def end(self) -> None:
        """Joins what the processes wrote; by the first process, after all have finished."""
        if self.path is not None and self.rank == 0:
            self._join_parts()

    def run(self) -> Run:
        """What has been measured, of all processes after `end`."""
        return _run(self.header, self.known())

    @property
    def _mine(self) -> Path:
        return self.path if self.count == 1 else self.path.with_name(f"{self.path.name}.part-{self.rank}")

    def _join_parts(self) -> None:
        for part in sorted(self.path.parent.glob(f"{self.path.name}.part-*")):
            _mend(part)
            content = part.read_bytes()
            with self.path.open("ab") as file:
                file.write(content)
            part.unlink()

    def _refuse_other(self, held: Header) -> None:
        for key in _SAME:
            if held.get(key) != self.header.get(key):
                raise UserError(
                    f"{self.path.name!r} holds another run ({_difference(key, held.get(key), self.header.get(key))}): "
                    "choose another --out, or the same settings to go on with it."
                )
        for name, one in self.header["variants"].items():
            if held["variants"].get(name, one) != one:
                raise UserError(f"{self.path.name!r} holds another {name!r} than this one: choose another --out.")


def _difference(key: str, held: Any, asked: Any) -> str:
    if isinstance(held, dict) and isinstance(asked, dict):
        key = next(name for name in {**held, **asked} if held.get(name) != asked.get(name))
        held, asked = held.get(key), asked.get(key)
    return f"{key} {held!r}, and now {asked!r}"


def to_lines(run: Run) -> str:
    """A run as the lines of a file."""
    return "".join(_line(value) for value in (run.header, *run.samples))


def _line(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _mend(path: Path) -> None:
    """Takes away a last line that was cut off, so that the next one begins at its own place."""
    with contextlib.suppress(FileNotFoundError):
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])


def carry_out(
    log: Log,
    places: Iterable[tuple[Sample, int]],
    measure: Callable[[Sample, Callable[[int, int], None]], Sample],
    *,
    wait: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Measures what is not measured yet, this process its share of it, and gives the whole run.

    Args:
        places: where samples are to be taken, each with what it costs (in tokens), in the order of the work.
        measure: gives what was measured at a place; it tells (done, in all) as it goes.
        wait: returns when all processes have called it.
        progress: told (tokens done, tokens in all) by this process; raising from it stops the work, and what was
            finished stays.
    """
    log.begin()
    wait()
    known = log.known()
    left = [(at, cost) for at, cost in places if place(at) not in known][log.rank :: log.count]
    total, done = sum(cost for _, cost in left), 0
    for at, cost in left:

        def tell(read: int, of: int, done: int = done, cost: int = cost) -> None:
            if progress:
                progress(done + cost * read // max(1, of), total)

        log.add({**at, **measure(at, tell)})
        done += cost
        if progress:
            progress(done, total)
    wait()
    log.end()
    wait()
    return log.run()

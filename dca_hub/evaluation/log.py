"""Writing a run down as it is measured, by one process or by several, and going on with one that was stopped."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dca_hub import json_lines
from dca_hub.errors import DcaHubError, Fix
from dca_hub.evaluation.runs import SAME, Header, Run, Sample, assemble, read, sample_key
from dca_hub.progress import OnProgress


class Log:
    """A file that a run is written to, and goes on from.

    With several processes each writes a file of its own beside it, which the first joins to it at the end, or at the
    next start if there was none.

    Args:
        path: the file, or None to keep everything in memory.
        header: what this run measures.
        rank, count: which of how many processes this is, each with a share of the work.
        writes: whether this process writes; of several that do all the work together one does.

    Raises:
        DcaHubError: the file holds a run of something else, or cannot be written.
    """

    def __init__(self, path: Path | None, header: Header, rank: int = 0, count: int = 1, writes: bool = True):
        if path is None and count > 1:
            raise DcaHubError(
                "Several processes need a file to combine their results", Fix("give {}", "out", "FILE.jsonl")
            )
        self.path, self.header, self.rank, self.count, self.writes = path, header, rank, count, writes
        self._memory: dict[tuple, Sample] = {}
        self._begun = False

    def begin(self) -> None:
        """Puts together what earlier runs have left; by the first process, while the others wait."""
        if self.path is not None and self.rank == 0 and self.writes:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _mend(self.path)
                self._join_parts()
            except OSError as error:
                raise DcaHubError(
                    f"{self.path.name!r} cannot be written ({error.strerror})", Fix("choose another {}", "out")
                ) from None

    def known(self) -> dict[tuple, Sample]:
        """The samples that are there already, by key. Raises DcaHubError for a file of another run."""
        if self.path is None or not self.path.is_file() or not self.path.stat().st_size:
            return dict(self._memory)
        known: dict[tuple, Sample] = {}
        for run in read(self.path):
            self._refuse_other(run.header)
            known |= {sample_key(sample): sample for sample in run.samples}
        return known

    def add(self, sample: Sample) -> None:
        """Writes a sample down."""
        self._memory[sample_key(sample)] = sample
        if self.path is None or not self.writes:
            return
        with self._mine.open("a", encoding="utf-8") as file:
            if not self._begun:
                file.write(json_lines.line(self.header))
                self._begun = True
            file.write(json_lines.line(sample))

    def end(self) -> None:
        """Joins what the processes wrote; by the first process, after all have finished."""
        if self.path is not None and self.rank == 0 and self.writes:
            self._join_parts()

    def run(self) -> Run:
        """What has been measured, of all processes after `end`."""
        return assemble(self.header, self.known())

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
        for key in SAME:
            if held.get(key) != self.header.get(key):
                raise DcaHubError(
                    f"{self.path.name!r} holds another run ({_difference(key, held.get(key), self.header.get(key))})",
                    Fix("choose another {}", "out"),
                    "give the same settings to go on with it",
                )
        for name, one in self.header["variants"].items():
            if held["variants"].get(name, one) != one:
                raise DcaHubError(
                    f"{self.path.name!r} holds another {name!r} than this one", Fix("choose another {}", "out")
                )


def _difference(key: str, held: Any, asked: Any) -> str:
    if isinstance(held, dict) and isinstance(asked, dict):
        key = next(name for name in {**held, **asked} if held.get(name) != asked.get(name))
        held, asked = held.get(key), asked.get(key)
    return f"{key} {held!r}, and now {asked!r}"


def _mend(path: Path) -> None:
    """Takes away a last line that was cut off, so that the next one begins a line of its own."""
    with contextlib.suppress(FileNotFoundError):
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])


Place = tuple[Sample, int]  # where a sample is taken, and what it costs


@dataclass(frozen=True)
class Together:
    """How several places are measured at once: `group` says which, all of those that it is given in any order, and
    `measure` gives a sample for each of them, telling (done, in all) as it goes."""

    group: Callable[[Sequence[Place]], Iterable[list[Place]]]
    measure: Callable[[Sequence[Sample], OnProgress], Sequence[Sample]]


def run_samples(
    log: Log,
    wanted: Iterable[Place],
    measure: Callable[[Sample, OnProgress], Sample],
    *,
    together: Together | None = None,
    wait: Callable[[], None] = lambda: None,
    progress: OnProgress | None = None,
) -> Run:
    """Measures what is not measured yet, this process its share of it, and gives the whole run.

    Args:
        wanted: the keys of the samples, each with what it costs (in tokens), in the order of the work.
        measure: gives what was measured for a key; it reports (done, in all) as it goes.
        together: how several samples are measured at once; by default each by itself.
        wait: returns when all processes have called it.
        progress: told (tokens done, tokens in all) by this process; raising from it stops the work, and what was
            finished stays.
    """
    log.begin()
    wait()
    known = log.known()
    left = [(at, cost) for at, cost in wanted if sample_key(at) not in known][log.rank :: log.count]
    total, done = sum(cost for _, cost in left), 0
    for chosen in together.group(left) if together else ([one] for one in left):
        cost = sum(cost for _, cost in chosen)

        def report(read: int, of: int, done: int = done, cost: int = cost) -> None:
            if progress:
                progress(done + cost * read // max(1, of), total)

        places_of_it = [at for at, _ in chosen]
        several = together and len(chosen) > 1
        found = together.measure(places_of_it, report) if several else [measure(places_of_it[0], report)]
        for at, one in zip(places_of_it, found, strict=True):
            log.add({**at, **one})
        done += cost
        if progress:
            progress(done, total)
    wait()
    log.end()
    wait()
    return log.run()

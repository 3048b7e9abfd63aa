"""The experiments of the command line: a loaded model in, a run out, written down as it goes."""

import datetime
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dca_hub import manifest
from dca_hub.control_tokens import ControlTokens, encode, opening_tokens
from dca_hub.errors import DcaHubError, Fix
from dca_hub.evaluation import batches, needle, perplexity, processes, runs
from dca_hub.evaluation import log as logs
from dca_hub.evaluation.grid import Grid
from dca_hub.evaluation.log import Log, Place, Together
from dca_hub.evaluation.perplexity import Definition
from dca_hub.evaluation.runs import Header, Run, Sample
from dca_hub.evaluation.variants import Variant
from dca_hub.generation import PIECE
from dca_hub.loading import Loaded
from dca_hub.progress import OnProgress
from dca_hub.version import VERSION


@dataclass(frozen=True)
class Subject:
    """What is measured: a loaded model, what it is called, and what it is compared with. `shared` says that several
    processes hold it together and do all the work together."""

    loaded: Loaded
    variants: tuple[Variant, ...]
    model: str
    revision: str | None
    shared: bool = False

    @classmethod
    def of(cls, loaded: Loaded, variants: Sequence[Variant], shared: bool = False) -> "Subject":
        """What was loaded, under the name and revision of the weights that a package holds or points at."""
        source = loaded.source
        known, revision = source.base or (source.entry.name if source.entry else None), source.revision
        if known is None and (source.folder / manifest.NAME).is_file():
            held = manifest.read(source.folder)
            known, revision = held.base, held.revision
        return cls(loaded, tuple(variants), known or source.folder.name, revision, shared)

    def named(self, variant: str) -> Variant:
        return next(one for one in self.variants if one.name == variant)


def header(subject: Subject, task: str, settings: dict[str, Any]) -> Header:
    """The first line of a run's file."""
    import torch
    import transformers

    loaded = subject.loaded
    versions = {"dca_hub": VERSION, "torch": torch.__version__, "transformers": transformers.__version__}
    return {
        "run": runs.FORMAT,
        "task": task,
        "model": subject.model,
        "revision": subject.revision,
        "trained": loaded.trained,
        "variants": {variant.name: variant.describes for variant in subject.variants},
        "settings": settings,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "versions": {**versions, "python": platform.python_version()},
        "device": _device_name(loaded.device),
        "processes": processes.join().count,
        "command": command(),
        "date": datetime.date.today().isoformat(),
    }


def command(arguments: Sequence[str] | None = None) -> str:
    """The command line of this process; paths lose their folders, which say nothing to others."""
    given = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["dca-hub", *(Path(one).name if one.startswith(("/", "~")) else one for one in given)])


def _device_name(device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def measure_perplexity(
    subject: Subject,
    texts: Sequence[str] | Sequence[Sequence[int]],
    lengths: Sequence[int],
    *,
    data: str,
    definition: Definition = "last",
    stride: int = 256,
    windows: int = 20,
    out: Path | None = None,
    progress: OnProgress | None = None,
) -> Run:
    """The perplexity of texts for every length and variant.

    Args:
        texts: documents, as text or as token ids.
        data: what the texts are called.
        definition: `authors` scores every token of each window over one stream, `last` the last `stride` of each, the
            same for every length; see `dca_hub.evaluation.perplexity`.
        stride: tokens from one window to the next.
        windows: how many windows, evenly spaced; 0 for one each `stride` tokens.
        out: the file to write to, and continue.

    Raises DcaHubError for texts that are too short, lengths without room, or a file of another run.
    """
    lengths = sorted(set(lengths))
    last = definition == "last"
    if not lengths or (last and lengths[0] <= stride):
        raise DcaHubError(
            f"Every length must be longer than the stride of {stride} tokens", Fix("give longer {}", "lengths")
        )
    tokenizer = subject.loaded.tokenizer
    safe = ControlTokens(tokenizer).defused
    ids = [encode(tokenizer, safe(text)) if isinstance(text, str) else list(text) for text in texts]
    if last:
        chosen = perplexity.windows_of_documents([len(one) for one in ids], lengths[-1], stride, windows)
        by_length = dict.fromkeys(lengths, chosen)
    else:
        ids = [[token for one in ids for token in one]]
        by_length = {n: perplexity.windows_of_stream(len(ids[0]), n, stride, windows) for n in lengths}
    settings: dict[str, Any] = {"data": data, "definition": definition, "stride": stride, "windows": windows}
    settings |= {"longest": lengths[-1], "places": len(by_length[lengths[-1]])} if last else {}
    bos = next(iter(opening_tokens(tokenizer)), None) if last else None

    def measure(at: Sample, report: OnProgress) -> Sample:
        model = subject.named(at["variant"]).model_for(at["length"])
        # The authors read `length` tokens and score the one behind each: one more than a context of that length has.
        context, scored = (at["length"], stride) if last else (at["length"] + 1, at["length"])
        started = time.monotonic()
        value = perplexity.nats(
            model, ids[at["document"]], at["end"], context, bos=bos, scored=scored, progress=report, piece=PIECE
        )
        return {"tokens": scored, "nats": value, "seconds": round(time.monotonic() - started, 3)}

    wanted = [
        ({"variant": variant.name, "length": length, "document": window.document, "end": window.end}, length)
        for variant in subject.variants
        for length in lengths
        for window in by_length[length]
    ]
    return run_experiment(subject, "perplexity", settings, wanted, measure, out, progress)


def measure_needles(
    subject: Subject,
    task: str,
    grid: Grid,
    *,
    text: str = "",
    batch: int | None = None,
    out: Path | None = None,
    progress: OnProgress | None = None,
) -> Run:
    """Needles in a haystack for every cell of the grid and every variant; all are asked the same.

    Args:
        task: passkey or needle.
        text: the haystack, where the grid's is none of prose, grass and pairs.
        batch: prompts of a length that are asked together; by default as many as fit on a GPU, and one elsewhere.

    Raises DcaHubError for an empty haystack, lengths without room, or a file of another run.
    """
    maker = needle.prompts(subject.loaded.tokenizer, grid, text)
    settings = needle.settings(subject.loaded.tokenizer, grid)

    def measure_together(chosen: Sequence[Sample], report: OnProgress) -> list[Sample]:
        variant = subject.named(chosen[0]["variant"])
        model = variant.model_for(chosen[0]["length"])
        places = [(at["length"], at["depth"], at["trial"]) for at in chosen]
        asked = needle.ask_together(model, maker, grid.seed, places, progress=report, piece=PIECE)
        about = {"model": subject.model, "dca": variant.dca, "haystack": grid.haystack, "seed": grid.seed}
        return [{**about, **one._asdict()} for one in asked]

    def measure(at: Sample, report: OnProgress) -> Sample:
        return measure_together([at], report)[0]

    wanted = [
        ({"variant": variant.name, "length": length, "depth": depth, "trial": trial}, length)
        for variant in subject.variants
        for length, depth, trial in grid.trial_keys()
    ]
    room = batches.Room(subject.loaded, batch)
    alike = lambda place: (place[0]["variant"], place[0]["length"])
    group = lambda places: batches.grouped(places, alike, lambda key: room.rows(key[1]))
    return run_experiment(subject, task, settings, wanted, measure, out, progress, Together(group, measure_together))


def run_experiment(
    subject: Subject,
    task: str,
    settings: dict[str, Any],
    wanted: list[Place],
    measure: Callable[[Sample, OnProgress], Sample],
    out: Path | None,
    progress: OnProgress | None,
    together: Together | None = None,
) -> Run:
    """`log.run_samples` by all processes that a launcher has started, under the header of this subject and task."""
    all_of_us = processes.join()
    about = header(subject, task, settings)
    rank, count = all_of_us.rank, all_of_us.count
    share = {"writes": rank == 0} if subject.shared else {"rank": rank, "count": count}
    log = Log(out, about, **share)
    return logs.run_samples(log, wanted, measure, together=together, wait=all_of_us.wait, progress=progress)

"""Tasks of lm-evaluation-harness, its own and ours, answered by any variant of a model at chosen lengths.

The harness is asked twice: first what it wants to know (`collect`), then, when a run has answered all of it, how good
the answers are (`score`). So answers are samples like any others: written as they come, resumed, and split over
processes; and every metric is the harness's.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import logging
import math
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy

from dca_hub.control_tokens import ControlTokens
from dca_hub.errors import DcaHubError, Fix
from dca_hub.evaluation import batches, experiments, predictions, processes, ruler, ruler_tasks, runs
from dca_hub.evaluation.answering import Reader, Request, answer, answer_together
from dca_hub.evaluation.cutting import marked_document
from dca_hub.evaluation.experiments import Subject
from dca_hub.evaluation.log import Place, Together
from dca_hub.evaluation.runs import Run, Sample
from dca_hub.generation import PromptCache, can_pad
from dca_hub.loading import Loaded
from dca_hub.progress import OnProgress

# Metrics of the harness that are shares of 1.
_SHARES = ("accuracy", "acc", "acc_norm", "exact_match", "f1", "em")
OURS = Path(__file__).with_name("tasks")
_ALIKE = 1.1  # how many times as long the longest prompt of a batch may be as the shortest
_INSTALL = "pip install -r requirements-evaluate.txt"
_NEEDED = f"This needs lm-evaluation-harness: {_INSTALL}."


def task_manager(names: Sequence[str], metadata: dict[str, Any]):
    """The tasks of the harness and ours, or ours alone where that is enough: it takes a while to look through its own.

    Raises DcaHubError for a task that there is not, with the names that come close, and when the harness is missing.
    """
    try:
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise DcaHubError(_NEEDED) from None
    own = {*(path.stem for path in OURS.glob("*.yaml")), *ruler.TASKS}  # RULER's are made here, at any length
    manager = TaskManager(include_path=str(OURS), include_defaults=not set(names) <= own, metadata=metadata)
    _check(names, [*manager.all_tasks, *ruler.TASKS])
    return manager


def _check(names: Sequence[str], known: Sequence[str]) -> None:
    import difflib

    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "`lm-eval ls tasks` lists them."
            raise DcaHubError(f"There is no task {name!r}: {hint}")


def _answering_model(loaded: Loaded, respond: Callable[[str, Request], Any], name: str):
    """The harness's idea of a model: hands every request to `respond`, with its key."""
    from lm_eval.api.model import LM

    safe = ControlTokens(loaded.tokenizer).defused

    class Model(LM):
        def generate_until(self, requests, disable_tqdm: bool = False):
            return [
                respond(_request_key(one), Request("generate_until", one.args[0], "", dict(one.args[1])))
                for one in requests
            ]

        def loglikelihood(self, requests, disable_tqdm: bool = False):
            return [respond(_request_key(one), Request("loglikelihood", *one.args)) for one in requests]

        def loglikelihood_rolling(self, requests, disable_tqdm: bool = False):
            raise DcaHubError(
                "Tasks that measure the perplexity of whole texts are not run here: use `dca-hub perplexity`."
            )

        def apply_chat_template(self, chat_history, add_generation_prompt: bool = True) -> str:
            chat_history = [{**message, "content": safe(message["content"])} for message in chat_history]
            render = partial(loaded.tokenizer.apply_chat_template, tokenize=False, enable_thinking=False)
            if add_generation_prompt:
                return render(chat_history, add_generation_prompt=True)
            *before, begun = chat_history
            asked = render(before, add_generation_prompt=True) if before else ""
            if begun["role"] == "assistant" and asked.rstrip().endswith(begun["content"].strip()):
                return asked  # the format itself begins the answer so
            return render(chat_history, continue_final_message=True)

        def chat_template(self, chat_template: bool | str = False) -> str | None:
            return loaded.tokenizer.chat_template if chat_template else None

        @property
        def tokenizer_name(self) -> str:
            return name

    return Model()


def _request_key(instance) -> str:
    """What tells a request from all others, its words included: an answer to other words is none to it."""
    asked = hashlib.sha256(repr(instance.args).encode()).hexdigest()[:8]
    return f"{instance.task_name}/{instance.doc_id}/{instance.idx}/{asked}"


@dataclass(frozen=True)
class Tasks:
    """Tasks of the harness at one length, with the data that they were made with: asked and scored over these alone."""

    names: tuple[str, ...]
    manager: Any
    built: list[Any]
    limit: int | None
    chat: bool

    def walk(self, model, samples: bool = False) -> dict:
        """One walk through the tasks: `model` is asked everything, and its answers are scored."""
        from lm_eval import simple_evaluate

        with _quietly(self.names):
            return simple_evaluate(
                model=model,
                tasks=list(self.built),
                task_manager=self.manager,
                limit=self.limit,
                apply_chat_template=self.chat,
                fewshot_as_multiturn=self.chat,
                bootstrap_iters=100,  # of metrics that are no means; for means the error is computed
                log_samples=samples,
            )


def build_tasks(
    names: Sequence[str], metadata: dict[str, Any], length: int, limit: int | None, chat: bool, essays: Path | None
) -> Tasks:
    """The tasks of those names with their data. RULER's prompts are made `length` tokens long."""
    metadata = {**metadata, "max_seq_lengths": [length]}
    manager, built = task_manager(names, metadata), []
    with _quietly(names), _drawing_the_same():
        for name in names:
            found = manager.load([ruler_tasks.config(name, length, limit, essays) if name in ruler.TASKS else name])
            built += [found["groups"][name]] if name in found["groups"] else list(found["tasks"].values())
    return Tasks(tuple(names), manager, built, limit, chat)


@contextlib.contextmanager
def _drawing_the_same() -> Iterator[None]:
    """Seeds the streams that tasks draw their prompts from, so that a run that is resumed asks the same."""
    before, before_numpy = random.getstate(), numpy.random.get_state()
    try:
        random.seed(0)
        numpy.random.seed(0)
        yield
    finally:
        random.setstate(before)
        numpy.random.set_state(before_numpy)


def from_hub(names: Sequence[str], data: str | None, essays: Path | None) -> list[str]:
    """What the tasks take from the network, each in words that end with how it is had otherwise."""
    found: dict[str, list[str]] = {}
    ours = {path.stem for path in OURS.glob("*.yaml")}
    for name in names:
        if name in ruler.TASKS:
            what = ruler_tasks.needs_hub(name, essays)
            own = {"essays": "essays (--essays DIR takes your own)", "questions": "questions"}
            what = what and f"RULER's {own[what]}"
        elif name in ours:
            what = None if data or not name.startswith("leval_") else "L-Eval's files (--data DIR takes yours)"
        else:
            what = "the harness's data"
        if what:
            found.setdefault(what, []).append(name)
    return [f"{what}, for {', '.join(tasks)}" for what, tasks in found.items()]


@contextlib.contextmanager
def _quietly(names: Sequence[str]) -> Iterator[None]:
    """Work of the harness without its words. What goes wrong in the data of tasks has a sentence."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        with _silent_children(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    except DcaHubError:
        raise
    except ImportError as error:
        raise DcaHubError(
            f"A task lacks a package ({error!s:.200}): pip install -r requirements-evaluate.txt."
        ) from None
    except (OSError, ConnectionError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DcaHubError(
            f"lm-evaluation-harness could not prepare {', '.join(names)} ({reason:.200})",
            "connect to the network for its data",
            Fix("give {} for ours", "data"),
        ) from None


@contextlib.contextmanager
def _silent_children() -> Iterator[None]:
    """Sends what other programs write on standard error away: the harness asks git for a commit, which complains
    outside of a checkout."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def measure_tasks(
    subject: Subject,
    names: Sequence[str],
    lengths: Sequence[int],
    *,
    data: str | None = None,
    limit: int | None = None,
    chat: bool | None = None,
    essays: Path | None = None,
    batch: int | None = None,
    out: Path | None = None,
    progress: OnProgress | None = None,
) -> list[Run]:
    """The scores of tasks for every variant at every length, a run for each task.

    Args:
        lengths: tokens that a prompt and its answer may have; longer prompts are cut. RULER makes its prompts so long.
        data: folder or Hub data set of our tasks' files.
        limit: only so many documents of each task.
        chat: prompts in the model's chat format; by default where it has one.
        essays: a folder of .txt files in which RULER hides needles, in place of the Hub's.
        batch: prompts of like length that are answered together; by default as many as fit on a GPU, and one elsewhere.
        out: the file of results. Answers are kept in `OUT.answers.jsonl` beside it, and gone on from.

    Raises DcaHubError for a missing package, an unknown task, data that is not there or not in the right format.
    """
    loaded = subject.loaded
    chat = bool(loaded.tokenizer.chat_template) if chat is None else chat
    if chat and not loaded.tokenizer.chat_template:
        raise DcaHubError("This model has no chat format", Fix("leave {} out", "chat"))
    settings = {
        "tasks": sorted(names),
        "limit": limit,
        "chat_format": chat,
        "lm_eval": importlib.metadata.version("lm_eval"),  # prompts and metrics are those of its version
        **({"from": Path(data).name} if data else {}),
        **({"essays": essays.name} if essays else {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        metadata = {"tokenizer": _plain_tokenizer(loaded, Path(folder)), **({"data": data} if data else {})}
        tasks = {length: build_tasks(names, metadata, length, limit, chat, essays) for length in sorted(set(lengths))}
    wanted = {length: _collect(subject, found) for length, found in tasks.items()}
    reader = Reader(loaded.tokenizer, chat)
    keys = [
        ({"variant": variant.name, "length": length, "id": at}, min(length, len(request.context) // 3 + request.room))
        for variant in subject.variants
        for length, requests in wanted.items()
        for at, request in requests.items()
    ]

    held: list[PromptCache] = []

    def measure(at: Sample, report: OnProgress) -> Sample:
        model = subject.named(at["variant"]).model_for(at["length"])
        if not held or held[0].model is not model:
            held[:] = [PromptCache(model)]
        return answer(model, reader, wanted[at["length"]][at["id"]], at["length"], report, held[0])

    def measure_together(chosen: Sequence[Sample], tell) -> list[Sample]:
        held.clear()  # its memory is the batch's
        length = chosen[0]["length"]
        model = subject.named(chosen[0]["variant"]).model_for(length)
        return answer_together(model, reader, [wanted[length][at["id"]] for at in chosen], length, tell)

    kept = out.with_name(f"{out.stem}.answers.jsonl") if out else None
    room, pads = batches.Room(loaded, batch), can_pad(loaded.base)
    together = Together(
        lambda left: _batches(left, wanted, room) if pads else ([one] for one in left), measure_together
    )
    answers = experiments.run_experiment(subject, "answers", settings, keys, measure, kept, progress, together)
    if processes.join().rank > 0:
        return []
    found = _score(subject, answers, tasks, out)
    average = ruler.average(found)
    found += [average] if average else []
    if out:
        out.write_text("".join(runs.to_lines(run) for run in found), encoding="utf-8")
    return found


def _batches(places: Sequence[Place], wanted: dict[int, dict[str, Request]], room: batches.Room) -> list[list[Place]]:
    """Requests for text of like length, in batches. Those about one document stay neighbours and by themselves, since
    it is read once for them; so do requests for likelihoods."""

    def key(place: Place) -> tuple:
        request, length = wanted[place[0]["length"]][place[0]["id"]], place[0]["length"]
        document = marked_document(request.context)
        if request.kind != "generate_until" or documents[length, document] > 1:
            return place[0]["variant"], length, place[0]["id"]
        size = min(len(request.context), 8 * length)  # in characters; longer ones are cut to one length
        return place[0]["variant"], length, request.room, round(math.log(max(1, size), _ALIKE))

    documents = Counter(
        (length, document)
        for length, asked in wanted.items()
        for request in asked.values()
        if (document := marked_document(request.context))  # a prompt in which none is marked has its own
    )
    found: dict[tuple, list[Place]] = {}
    for place in places:
        found.setdefault(key(place), []).append(place)
    return [one for alike in found.values() for one in batches.grouped(alike, key, lambda known: room.rows(known[1]))]


def _plain_tokenizer(loaded: Loaded, folder: Path) -> str:
    """The tokenizer without what points at code of the checkpoint: the harness would run it."""
    loaded.tokenizer.save_pretrained(folder)
    for path in folder.glob("*.json"):
        held = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(held, dict) and held.pop("auto_map", None) is not None:
            path.write_text(json.dumps(held), encoding="utf-8")
    return str(folder)


def _collect(subject: Subject, tasks: Tasks) -> dict[str, Request]:
    """What the tasks want to know, by place; what they are told is of no consequence yet."""
    wanted: dict[str, Request] = {}

    def note(at: str, request: Request):
        wanted[at] = request
        return "none" if request.kind == "generate_until" else (-1.0, False)

    tasks.walk(_answering_model(subject.loaded, note, subject.model))
    return wanted


def _score(subject: Subject, answers: Run, tasks: dict[int, Tasks], out: Path | None) -> list[Run]:
    """The harness's metrics of the answers: a run for each task and metric."""
    by_key = {(one["variant"], one["length"], one["id"]): one for one in answers.samples}
    found: dict[tuple[str, str], list[Sample]] = {}
    for variant in subject.variants:
        for length, asked in tasks.items():
            known = {at: one for (name, n, at), one in by_key.items() if (name, n) == (variant.name, length)}

            taken: dict[str, Sample] = {}

            def respond(at: str, request: Request, known: dict = known, taken: dict = taken):
                if at not in known:
                    raise DcaHubError(
                        f"{at.partition('/')[0]} makes different requests each time it is run: leave this task out."
                    )
                one = taken[at] = known[at]
                return one["answer"] if "answer" in one else (one["logprob"], one["greedy"])

            model = _answering_model(subject.loaded, respond, subject.model)
            results = asked.walk(model, samples=out is not None)
            if out is not None:
                predictions.write(out, variant.name, length, subject.model, results["samples"])
            for (task, metric), (score, error, count) in _numbers(results).items():
                cut = [one["cut"] for at, one in taken.items() if at.startswith(f"{task}/")]
                sample = {"variant": variant.name, "length": length, "id": metric, "score": score, "error": error}
                more_of_it = {"samples": count, "cut": sum(tokens > 0 for tokens in cut)}
                found.setdefault((task, metric), []).append({**sample, **more_of_it})
    made = []
    for (task, metric), samples in found.items():
        percent = (OURS / f"{task}.yaml").is_file() or metric.partition(" (")[0] in _SHARES
        settings = {**answers.header["settings"], "metric": metric, "percent": percent}
        header = {**answers.header, "task": task, "settings": {k: v for k, v in settings.items() if k != "tasks"}}
        made.append(Run(header, tuple(samples)))
    return made


def _numbers(results: dict) -> dict[tuple[str, str], tuple[float, float | None, int]]:
    """(score, standard error, documents) by task and metric."""
    found = {}
    for task, values in results["results"].items():
        for key, value in values.items():
            metric, _, chosen = key.partition(",")
            if (
                not chosen
                or metric.endswith("_stderr")
                or isinstance(value, bool)
                or not isinstance(value, (int, float))
            ):
                continue
            error = values.get(f"{metric}_stderr,{chosen}")
            count = results.get("n-samples", {}).get(task, {}).get("effective", 0)
            label = metric if chosen == "none" else f"{metric} ({chosen})"
            found[task, label] = (float(value), error if isinstance(error, (int, float)) else None, int(count))
    return found

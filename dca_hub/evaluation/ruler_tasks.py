"""RULER's 13 tasks for lm-evaluation-harness: its own prompts and metrics, at any length and with as many prompts as
are asked for, where the harness's files know six lengths and make 500 prompts each time.

Two more things differ. Essays may come from a folder. And of a question with several right answers one is enough, as in
RULER's own evaluator: the harness takes the share of them.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dca_hub.errors import DcaHubError
from dca_hub.evaluation import metrics
from dca_hub.evaluation.ruler import TASKS

PROMPTS = 500  # of each task, where no limit is set
_QUESTIONS = ("ruler_qa_squad", "ruler_qa_hotpot")
# haystack, kinds of keys and values, and how many of each; tokens of an answer, where they are not 128.
_NEEDLES: dict[str, dict[str, Any]] = {
    "niah_single_1": {"type_haystack": "repeat"},
    "niah_single_2": {"type_haystack": "essay"},
    "niah_single_3": {"type_haystack": "essay", "type_needle_v": "uuids"},
    "niah_multikey_1": {"type_haystack": "essay", "num_needle_k": 4},
    "niah_multikey_2": {"type_haystack": "needle"},
    "niah_multikey_3": {"type_haystack": "needle", "type_needle_k": "uuids", "type_needle_v": "uuids"},
    "niah_multivalue": {"type_haystack": "essay", "num_needle_v": 4},
    "niah_multiquery": {"type_haystack": "essay", "num_needle_q": 4},
}
_ROOM = {"ruler_vt": 30, "ruler_cwe": 120, "ruler_fwe": 50, "ruler_qa_squad": 32, "ruler_qa_hotpot": 32}
_USUAL_ROOM = 128


def needs_hub(name: str, essays: Path | None) -> str | None:
    """What a task takes from the network, in words; None for nothing."""
    if name in _QUESTIONS:
        return "questions"
    return "essays" if essays is None and _NEEDLES.get(name, {}).get("type_haystack") == "essay" else None


def config(name: str, length: int, limit: int | None = None, essays: Path | None = None) -> dict[str, Any]:
    """What the harness makes a task of.

    Args:
        name: one of `ruler.TASKS`.
        length: tokens of a prompt and its answer.
        limit: so many prompts; but for questions no more are made.
        essays: a folder of .txt files for the tasks that hide needles in essays.

    Raises DcaHubError for a folder without text, or when a package of RULER is missing.
    """
    if name not in TASKS:
        raise DcaHubError(f"{name!r} is not a RULER task: use {', '.join(TASKS)}.")
    try:
        from lm_eval.tasks.ruler import common_utils
    except ImportError as error:
        raise DcaHubError(
            f"RULER lacks a package ({error!s:.100}): pip install -r requirements-evaluate.txt."
        ) from None
    one_of_them = name in _QUESTIONS
    return {
        "task": name,
        "custom_dataset": _dataset(name, length, min(PROMPTS, limit or PROMPTS), essays),
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "{{input}}",
        "doc_to_target": "{{outputs}}",
        "gen_prefix": "{{gen_prefix}}",
        "target_delimiter": "\n\n" if name == "ruler_cwe" else " ",
        "process_results": partial(_score, common_utils.postprocess_pred, one_of_them),
        "metric_list": [{"metric": "accuracy", "aggregation": "mean", "higher_is_better": True}],
        "generation_kwargs": {"do_sample": False, "max_gen_toks": _ROOM.get(name, _USUAL_ROOM), "until": []},
        "metadata": {"version": 1.0},
    }


def _score(clean: Callable, one_is_enough: bool, doc: dict, results: list[str]) -> dict[str, float]:
    [answer] = clean(results)
    score = metrics.any_of if one_is_enough else metrics.share_of
    return {"accuracy": score(answer, doc["outputs"])}


def _dataset(name: str, length: int, count: int, essays: Path | None) -> Callable:
    from lm_eval.tasks.ruler import cwe_utils, fwe_utils, qa_utils

    questions = {"ruler_qa_squad": qa_utils.get_squad, "ruler_qa_hotpot": qa_utils.get_hotpotqa}
    if name in questions:
        return questions[name]
    made = {
        "ruler_vt": lambda tokenizer: _chains(tokenizer, length, count),
        "ruler_cwe": lambda tokenizer: cwe_utils.sys_word_pair_random(count, length, tokenizer),
        "ruler_fwe": lambda tokenizer: fwe_utils.sys_kwext(tokenizer, length, count),
    }
    return _made(made.get(name) or (lambda tokenizer: _needles(tokenizer, name, length, count, essays)))


def _made(samples: Callable[[Any], list[dict]]) -> Callable:
    """What the harness takes a task's data from; it says which tokenizer."""
    from datasets import Dataset
    from lm_eval.tasks.ruler.common_utils import get_tokenizer, resolve_tokenizer_name

    return lambda **about: {"test": Dataset.from_list(samples(get_tokenizer(resolve_tokenizer_name(about))))}


def _needles(tokenizer, name: str, length: int, count: int, essays: Path | None) -> list[dict]:
    from lm_eval.tasks.ruler import niah_utils, prepare_niah

    about = {"type_needle_k": "words", "type_needle_v": "numbers", **_NEEDLES[name]}
    own = essays is not None and about["type_haystack"] == "essay"
    haystack = _words_of(essays) if own else prepare_niah.get_haystack(type_haystack=about["type_haystack"])
    return prepare_niah.generate_samples(
        haystack, tokenizer, max_seq_length=length, template=niah_utils.TEMPLATE, num_samples=count, **about
    )


def _chains(tokenizer, length: int, count: int) -> list[dict]:
    """Variable tracking: behind an example, as the harness makes it."""
    from lm_eval.tasks.ruler.vt_utils import sys_vartrack_w_noise_random

    [example] = sys_vartrack_w_noise_random(tokenizer, 1, 500, incremental=5)
    return sys_vartrack_w_noise_random(tokenizer, count, length, icl_example=example)


def _words_of(folder: Path) -> list[str]:
    files = sorted(folder.expanduser().rglob("*.txt"))
    words = [word for file in files for word in file.read_text(encoding="utf-8", errors="replace").split()]
    if not words:
        raise DcaHubError(f"{folder.name!r} holds no text: give a folder of .txt files.")
    return words

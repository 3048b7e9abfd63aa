"""The model card of a package: front matter that the Hub understands, and what a careful person wants to know.

Packaging writes it for a folder; publishing writes the sections that depend on the repository again (`published`).
"""

from dataclasses import dataclass
from typing import Any

from dca_hub import licenses, results
from dca_hub.card_text import TRAINING, front_matter, replace_section, section, section_text, with_front_matter
from dca_hub.errors import DcaHubError
from dca_hub.plan import Plan
from dca_hub.results import Measurement
from dca_hub.tables import Table

PAPER = "https://arxiv.org/abs/2402.17463"
LOADING, MEASURED, REPRODUCING = "How to load it", "Measured results", "How to reproduce it"
ABILITIES = "What it can and cannot do"
_NUMBERS = "The measured numbers:"
_CITATION = """\
@misc{an2024trainingfree,
  title  = {Training-Free Long-Context Scaling of Large Language Models},
  author = {Chenxin An and Fei Huang and Jun Zhang and Shansan Gong and Xipeng Qiu and Chang Zhou and Lingpeng Kong},
  year   = {2024},
  eprint = {2402.17463},
  archivePrefix = {arXiv},
}"""


@dataclass(frozen=True)
class Destination:
    """Where a package is published: what its card must say that the folder's could not.

    `revision` is a tag or commit that readers can pin, or None where there is none yet. `weights` is the repository
    and revision that hold the weights, where this one has none; `gated` says whether one must be let in there.
    """

    repository: str
    revision: str | None = None
    weights: tuple[str, str] | None = None
    gated: bool = False


def license_key(plan: Plan) -> str | None:
    """The license of the weights: the catalogue's, or what the source's own card states, or None."""
    if plan.entry is not None:
        return plan.entry.license
    stated = source_metadata(plan)
    key = stated.get("license_name") if stated.get("license") == "other" else stated.get("license")
    return key.lower() if isinstance(key, str) else None


def source_metadata(plan: Plan) -> dict[str, Any]:
    """The front matter of the source's own card; empty where there is none that can be read."""
    try:
        return front_matter(_source_card(plan))[0]
    except DcaHubError:
        return {}


def _training(plan: Plan) -> dict[str, Any]:
    """How the source was fine-tuned with DCA, as `finetune` wrote it; empty where it was not."""
    stated = source_metadata(plan).get(TRAINING)
    return stated if isinstance(stated, dict) else {}


def _trained_words(training: dict[str, Any]) -> str:
    how = f"LoRA adapters of rank {training['lora']}, merged" if training.get("lora") else "all weights"
    joined = "joined into long ones" if training.get("concatenate") else "packed and kept apart"
    return (
        f"It was fine-tuned with DCA from {training.get('model')}: {how}, {training.get('steps'):,} steps of "
        f"{training.get('rows_a_step')} rows of {training.get('length'):,} tokens, on the dialogues of "
        f"`{training.get('data')}` (file and hash), {joined}; learning rate {training.get('learning_rate'):g}, "
        f"{training.get('scheduler')} schedule, seed {training.get('seed')}."
    )


def _training_command(training: dict[str, Any]) -> str:
    """The command line that trains the same again, on one process."""
    flags = {
        "--length": "length", "--steps": "steps", "--batch": "batch", "--accumulate": "accumulate",
        "--learning-rate": "learning_rate", "--warmup": "warmup", "--scheduler": "scheduler", "--lora": "lora",
        "--num-data": "most_dialogues", "--held-out": "held_out", "--dtype": "dtype", "--seed": "seed",
    }  # fmt: skip
    said = [f"{flag} {training[key]}" for flag, key in flags.items() if training.get(key)]
    said += ["--concatenate"] if training.get("concatenate") else []
    data = str(training.get("data")).rpartition(" ")[0] or "FILE"
    return f"python -m dca_hub finetune {training.get('model')} --data {data} {' '.join(said)} --out TUNED"


def _source_card(plan: Plan) -> str:
    path = plan.source.folder / "README.md"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def metadata(plan: Plan) -> dict[str, Any]:
    """The front matter of the package's card."""
    values: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["custom_code", "long-context", "dual-chunk-attention", "arxiv:2402.17463"],
    }
    languages = list(plan.entry.languages) if plan.entry else source_metadata(plan).get("language")
    if languages:
        values["language"] = languages
    key = license_key(plan)
    known = licenses.LICENSES.get(key) if key else None
    if known is not None:
        values["license"] = known.hub_id
        if known.hub_id == "other":
            values.update(license_name=known.key, license_link=known.link)
    else:
        stated = source_metadata(plan)
        values.update({k: stated[k] for k in ("license", "license_name", "license_link") if k in stated})
    if plan.source.base:
        values.update(base_model=plan.source.base, base_model_relation="finetune")
    elif "base_model" in source_metadata(plan):  # a checkpoint that was fine-tuned from one
        values.update(base_model=source_metadata(plan)["base_model"], base_model_relation="finetune")
    return values


def license_of(text: str) -> str | None:
    """The key of the license that a card states, or None."""
    stated = front_matter(text)[0]
    key = stated.get("license_name") if stated.get("license") == "other" else stated.get("license")
    return key.lower() if isinstance(key, str) else None


def model_card(plan: Plan) -> str:
    """README.md of a package."""
    parts = [
        f"# {_name(plan)} with Dual Chunk Attention",
        *_license_words(plan),
        _what(plan),
        section(LOADING, _loading(None)),
        section("Sizes", _sizes(plan)),
        section("Contexts it is known to reach", _reach(plan)),
        *_abilities(plan),
        section(REPRODUCING, _reproducing(plan)),
        section("Limits", _limits(plan)),
        section("Citation", f"Please cite the authors of Dual Chunk Attention:\n\n```bibtex\n{_CITATION}\n```"),
    ]
    return with_front_matter(metadata(plan), "\n\n".join(parts) + "\n")


def published(text: str, destination: Destination, measured: list[Measurement], source: str | None) -> str:
    """The card of a package as it reads in its repository: how to load it there, and what was measured.

    Args:
        text: the package's README.md.
        measured: results out of the evaluation's files; with none, those that the card has stay.
        source: the address of the file that holds them.
    """
    values, body = front_matter(text)
    body = replace_section(body, LOADING, _loading(destination))
    text = with_front_matter(values, body)
    return with_results(text, destination.repository.partition("/")[2], measured, source) if measured else text


def with_results(text: str, name: str, measured: list[Measurement], source: str | None) -> str:
    """A card with these results, in place of any that it had, in its metadata, as a table and as commands.

    Args:
        name: what the model is called.
        source: the address of the file that holds the results, or None.
    """
    values, body = front_matter(text)
    values["model-index"] = results.model_index(measured, name, source)
    body = replace_section(body, MEASURED, _measured(measured, source), before=REPRODUCING)
    again = results.commands(measured)
    if again:
        held = section_text(body, REPRODUCING).partition(_NUMBERS)[0].strip()
        body = replace_section(body, REPRODUCING, f"{held}\n\n{_NUMBERS}\n\n{_shell(again)}")
    return with_front_matter(values, body)


def snippet(destination: Destination) -> str:
    """The Python that loads a published package, with every revision pinned that there is."""
    pin = f', revision="{destination.revision}"' if destination.revision else ""
    return "\n".join(
        [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{destination.repository}"{pin}, trust_remote_code=True)',
            "model = AutoModelForCausalLM.from_pretrained(",
            f'    "{destination.repository}"{pin}, trust_remote_code=True, dtype="auto"',
            ")",
        ]
    )


def _shell(commands: list[str]) -> str:
    return "```sh\n" + "\n".join(commands) + "\n```"


def _name(plan: Plan) -> str:
    if plan.source.base:
        return plan.source.base.rpartition("/")[2]
    return plan.entry.name if plan.entry else plan.source.folder.name


def _license_words(plan: Plan) -> list[str]:
    known = licenses.LICENSES.get(license_key(plan) or "")
    if known is None:
        return [
            "The terms of the base model's license are not known here: read them before you redistribute this model."
        ]
    shown = [f"**{known.display}**"] if known.display else []
    duties = licenses.obligations(known)
    if plan.entry and plan.entry.gated:
        duties.append(f"The base model is gated: accept its license at {plan.source.base} before you use its weights.")
    if duties:
        shown.append(f"The weights are under the {known.title}.\n\n" + "\n".join(f"- {duty}" for duty in duties))
    return shown


def _what(plan: Plan) -> str:
    trained, base = plan.geometry.pretraining_length, _name(plan)
    link = f"[{base}](https://huggingface.co/{plan.source.base})" if plan.source.base else base
    pinned = f" (revision `{plan.source.revision}`)" if plan.source.base and plan.source.revision else ""
    training = _training(plan)
    gain = "it reads texts many times longer without any training. The weights are the base model's own."
    if training:
        link = f"The base model, {training.get('model')},"
        gain = f"it reads texts many times longer. {_trained_words(training)}"
    plain = "its plain attention with the same weights" if training else "the base model"
    return (
        f"{link}{pinned} was trained on texts of {trained:,} tokens. [Dual Chunk Attention]({PAPER}) (DCA) rearranges "
        f"the positions that its attention sees, so that it never meets a distance beyond {plan.geometry.chunk_size:,} "
        f"tokens, and {gain} Up to {plan.geometry.chunk_length:,} tokens the model *is* {plain}, number for number."
    )


def _loading(destination: Destination | None) -> str:
    parts = [f"```python\n{snippet(destination or Destination('PATH_OR_ID'))}\n```"]
    if destination and destination.weights:
        repository, revision = destination.weights
        parts.append(
            "This repository holds no weights: the code above downloads those of "
            f"[{repository}](https://huggingface.co/{repository}) at revision `{revision}` into the cache, from which "
            "they load offline later."
        )
        if destination.gated:
            parts.append(
                f"{repository} is gated: accept its license on its page first, and log in with `hf auth login`."
            )
    if destination and not destination.revision:
        parts.append(
            "Pin the code that you have reviewed: pass `revision=` with a commit of this repository to both calls."
        )
    parts.append(
        "The modeling files need torch and transformers (5.10 or later) and nothing else; flash-attn is used on CUDA "
        "where it is installed. Without `trust_remote_code=True` the model refuses to load, since it would otherwise "
        "run plain attention."
    )
    parts.append(
        "vLLM serves it with the dca-hub plug-in installed (`pip install 'dca-hub[vllm]'`). Without the plug-in, "
        "vLLM refuses it, as does every engine without `DualChunk` classes: under the base model's class names it "
        "would run plain attention."
    )
    return "\n\n".join(parts)


def _sizes(plan: Plan) -> str:
    geometry = plan.geometry
    rows = [
        ("trained length L", f"{geometry.pretraining_length:,}"),
        ("chunk_size C", f"{geometry.chunk_size:,}"),
        ("local_size w", f"{geometry.local_size:,}"),
        ("chunk length s = C - w", f"{geometry.chunk_length:,}"),
        ("attention temperature f", f"{geometry.temperature:g}" if geometry.temperature else "none"),
        ("where the sizes come from", plan.sizes_from),
    ]
    return Table(("", ""), rows, numbers=()).markdown()


def _reach(plan: Plan) -> str:
    reach = plan.entry.reach if plan.entry else ()
    if not reach:
        return (
            "This model has not been measured yet. The authors of DCA found that perplexity stays low up to about 8 "
            "times the trained length; measure before you rely on it."
        )
    return "\n".join(f"- {one.stated} tokens, measured by {one.by}: {one.evidence}." for one in reach)


def _abilities(plan: Plan) -> list[str]:
    """What the card of a base that is made here says of it, measured tables and all."""
    told = section_text(_source_card(plan), ABILITIES) if plan.entry and plan.entry.is_local else ""
    return [section(ABILITIES, told)] if told else []


def _measured(measured: list[Measurement], source: str | None) -> str:
    return results.table(measured) + (f"\n\nThe measurements themselves: [{source}]({source})." if source else "")


def _reproducing(plan: Plan) -> str:
    geometry, name = plan.geometry, plan.entry.name if plan.entry else plan.source.base or "SOURCE"
    pin = f" --revision {plan.source.revision}" if plan.source.base and plan.source.revision else ""
    sizes = (
        f" --pretraining-length {geometry.pretraining_length} --chunk-size {geometry.chunk_size}"
        f" --local-size {geometry.local_size} --temperature {geometry.temperature:g}"
    )
    words = "To make this package again, and to check that it equals its base up to the chunk length:"
    commands = [f"python -m dca_hub package {name}{pin}{sizes} --out DIR", "python -m dca_hub verify DIR"]
    training = _training(plan)
    if training:
        words = (
            f"To repeat the training, and to check the package that it writes to TUNED ({training.get('rows_a_step')} "
            "rows a "
        )
        words += "step over all processes):"
        commands = [_training_command(training), "python -m dca_hub verify TUNED"]
    return f"{words}\n\n" + _shell(commands)


def _limits(plan: Plan) -> str:
    words = [
        "- DCA extends what a model can read, not what it understands: small models find passages in long texts and "
        "still answer badly.",
        "- Attention still covers the whole text: time grows with the square of the length, and the cache linearly "
        "with it.",
        *(["- It has the errors and biases of the base model: nothing was trained."] * (not _training(plan))),
    ]
    if plan.entry and plan.entry.notes:
        words.append(f"- {plan.entry.notes}")
    return "\n".join(words)

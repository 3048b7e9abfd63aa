"""All results of a folder as one page, in Markdown and HTML, with a picture of each run."""

import base64
import html
import re
from dataclasses import dataclass
from pathlib import Path

from dca_hub import card, catalogue, manifest, results, sources
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import plots, runs, summary
from dca_hub.evaluation.predictions import FOLDER
from dca_hub.evaluation.runs import Run
from dca_hub.results import Measurement
from dca_hub.tables import Table

MARKDOWN, PAGE = "report.md", "report.html"
ANSWERS = "answers"  # the task of what `evaluate` keeps beside its results
_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #10202b; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #d5dade; text-align: right; }
th:first-child, td:first-child { text-align: left; } img { max-width: 100%; } small { color: #55636e; }
pre { background: #f1f3f5; padding: .7rem; white-space: pre-wrap; }
"""


@dataclass(frozen=True)
class Section:
    """What a page says of one run. `picture` is the name of a file beside the page."""

    title: str
    tables: tuple[Table, ...]
    picture: str
    png: bytes
    conditions: str
    commands: tuple[str, ...]


def collect(folder: Path) -> tuple[list[tuple[Path, Run]], list[Path]]:
    """Every run in the .jsonl files of a folder and those below it, in order of their names, and the files of that
    kind that hold none.

    Raises DcaHubError when there is no run, or a file is damaged.
    """
    if not folder.is_dir():
        raise DcaHubError(f"There is no folder {folder.name!r}: give the one that holds the files of the runs.")
    files = [file for file in sorted(folder.rglob("*.jsonl")) if not file.parent.parent.name.endswith(FOLDER)]
    read = [(file, run) for file in files if runs.is_run(file) for run in runs.read(file)]
    found = [(file, run) for file, run in read if run.task != ANSWERS]
    if not found:
        raise DcaHubError(
            f"{folder.name!r} holds no results: put the files there that perplexity, passkey, needle or evaluate wrote."
        )
    return found, [file for file in files if not runs.is_run(file)]


def sections(found: list[tuple[Path, Run]]) -> list[Section]:
    """A section for each run, those of a model one after another."""
    made = []
    for number, (file, run) in enumerate(sorted(found, key=lambda one: (one[1].header["model"], one[1].task)), 1):
        name = f"{number:02d}-{re.sub(r'[^a-z0-9]+', '-', f'{file.stem} {run.task}'.lower()).strip('-')}.png"
        made.append(
            Section(
                f"{run.header['model']}: {', '.join(dict.fromkeys((run.task, summary.title(run))))}",
                tuple(summary.tables(run)),
                name,
                plots.picture([run]),
                summary.conditions(run),
                (run.header["command"],) if run.header.get("command") else (),
            )
        )
    return made


def write(folder: Path, made: list[Section]) -> list[Path]:
    """Writes the page in both forms, and its pictures, into a folder; gives what was written.

    Raises DcaHubError when the folder cannot be written to.
    """
    files = {MARKDOWN: markdown(made).encode(), PAGE: page(made).encode()}
    files |= {section.picture: section.png for section in made}
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise DcaHubError(
            f"{folder.name!r} cannot be written to ({error.strerror}): copy the results elsewhere."
        ) from None
    return [folder / name for name in files]


def markdown(made: list[Section]) -> str:
    """The page in Markdown; its pictures are files beside it."""
    parts = ["# Results"]
    for section in made:
        tables = [table.markdown() for table in section.tables]
        parts += [f"## {section.title}", *tables, f"![{section.title}]({section.picture})", section.conditions]
        parts += [f"```sh\n{command}\n```" for command in section.commands]
    return "\n\n".join(parts) + "\n"


def page(made: list[Section]) -> str:
    """The page in HTML, pictures included: one file that can be passed on."""
    parts = []
    for section in made:
        title, image = html.escape(section.title), base64.b64encode(section.png).decode()
        parts += [f"<h2>{title}</h2>", *(table.html() for table in section.tables)]
        parts.append(f'<p><img alt="{title}" src="data:image/png;base64,{image}"></p>')
        parts.append(f"<p><small>{html.escape(section.conditions)}</small></p>")
        parts += [f"<pre>{html.escape(command)}</pre>" for command in section.commands]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Results</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        "<body><h1>Results</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def into_package(folder: Path, measured: list[Measurement]) -> None:
    """Puts measurements into a package: its card's metadata and tables, a file beside it, and the manifest.

    Raises DcaHubError when it is no package, or they are of another model or other sizes.
    """
    held = manifest.read(folder)
    sizes = sources.read_config(folder)["dual_chunk_attention_config"]
    results.refuse_foreign(measured, catalogue.names_of(held.base), sizes)
    readme = folder / "README.md"
    name = (held.base or folder.resolve().name).rpartition("/")[2]
    readme.write_text(card.with_results(readme.read_text(encoding="utf-8"), name, measured, None), encoding="utf-8")
    (folder / results.FILE).write_text(results.to_lines(measured), encoding="utf-8")
    for path in (readme, folder / results.FILE):
        held.files[path.name] = {"sha256": manifest.digest(path), "size": path.stat().st_size}
    held.write(folder)

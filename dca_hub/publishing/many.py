"""Packages and publishes entries of the catalogue, one after another; one that fails stops none of the others."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from dca_hub import licenses
from dca_hub.catalogue import Entry
from dca_hub.errors import DcaHubError
from dca_hub.progress import OnMessage
from dca_hub.publishing import model
from dca_hub.publishing.model import Options
from dca_hub.tables import Table


class State(Enum):
    """What became of an entry."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    PLANNED = "planned"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """One line of the summary; `detail` is what was checked or, for one that failed, the reason."""

    entry: str
    repository: str
    state: State
    commit: str | None
    detail: str


def repository_name(entry: Entry, owner: str, suffix: str = "-DCA") -> str:
    """The repository for an entry: called after its base, and as the base's license wants it."""
    name = entry.name if entry.is_local else entry.base.rpartition("/")[2]
    license = licenses.LICENSES.get(entry.license)
    if license and licenses.name_problem(license, name):
        bare = name.removeprefix("Meta-")
        prefix = str(license.name_prefix).replace(" ", "-")
        name = f"{prefix}-{name}" if licenses.name_problem(license, bare) else bare
    return f"{owner}/{name}{suffix}"


def publish(
    entries: list[Entry],
    owner: str,
    options: Options,
    on_message: OnMessage,
    *,
    suffix: str = "-DCA",
    with_weights: bool = False,
    dry_run: bool = False,
) -> Iterator[Outcome]:
    """Publishes each entry in reference mode, those whose weights come with this project as a copy.

    Args:
        with_weights: fetch the base's weights too, where they are not too many, and check the model itself.
        dry_run: say what would be done, and do nothing.
    """
    for number, entry in enumerate(entries, 1):
        repository = repository_name(entry, owner, suffix)
        on_message(f"[{number}/{len(entries)}] {entry.name} as {repository}")
        try:
            yield _one(entry, repository, options, on_message, with_weights, dry_run)
        except DcaHubError as error:
            yield Outcome(entry.name, repository, State.FAILED, None, str(error))


def _one(
    entry: Entry, repository: str, options: Options, on_message: OnMessage, with_weights: bool, dry_run: bool
) -> Outcome:
    from dca_hub.packaging import package

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / entry.name
        weights = "copy" if entry.is_local else "reference"
        package(entry.name, folder, weights=weights)
        options = replace(options, weights=weights)
        plan = model.plan(folder, repository, options)
        if dry_run:
            changes = plan.changes
            words = f"{len(changes.added)} new, {len(changes.changed)} changed, {len(changes.removed)} removed"
            return Outcome(entry.name, repository, State.PLANNED, None, f"{plan.choice.mode}: {words}")
        if plan.changes or plan.state is None:
            model.verify(folder, plan.choice, on_message, with_weights=with_weights)
        published = model.upload(plan)
        detail = "there already, and loaded back then"
        if published.new or not model.is_tagged(published):
            detail = model.load_back(published, with_weights=with_weights or entry.is_local)
            model.tag(published)
    return Outcome(
        entry.name,
        repository,
        State.PUBLISHED if published.new else State.UNCHANGED,
        published.commit.commit,
        detail,
    )


def table(outcomes: list[Outcome]) -> str:
    """The summary as aligned text, one entry a line."""
    rows = [(o.entry, o.repository, o.state.value, (o.commit or "-")[:12], o.detail) for o in outcomes]
    return Table(("model", "repository", "state", "revision", ""), rows, numbers=()).text()

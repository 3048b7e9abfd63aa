"""Publishes a package: from a folder that passes its verification to a revision on the Hub that loads."""

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dca_hub import card, licenses, manifest
from dca_hub.errors import DcaHubError, Fix
from dca_hub.manifest import Manifest
from dca_hub.progress import OnMessage
from dca_hub.publishing import comparison, failures
from dca_hub.publishing.contents import Changes
from dca_hub.publishing.hub import SILENCE, Commit, Hub, State
from dca_hub.publishing.prepare import Prepared, prepare
from dca_hub.publishing.weights import Choice, Mode, choose, find_base, own_weights

_OWNER_NAME = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?/[A-Za-z0-9_]([\w.-]*[A-Za-z0-9_])?")
# What a person may have put beside a package on its page, and no loader ever reads.
_KEPT = {".md", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".pdf"}


@dataclass(frozen=True)
class Options:
    """How to publish; see `dca-hub publish --help`."""

    private: bool = False
    branch: str | None = None
    pull_request: bool = False
    tag: str | None = None
    weights: Mode | None = None
    results: tuple[Path, ...] = ()
    silence: float = SILENCE


@dataclass(frozen=True)
class Plan:
    """What publishing would do. `state` is what the repository holds now, or None where there is none."""

    folder: Path
    repository: str
    options: Options
    held: Manifest
    choice: Choice
    prepared: Prepared
    state: State | None
    changes: Changes

    @property
    def weights_bytes(self) -> int:
        own = sum(int(known["size"]) for known in own_weights(self.held).values())
        return own or (self.choice.base.bytes if self.choice.base else 0)


@dataclass(frozen=True)
class Published:
    """What came of it: the commit, whether it is new, the Python that loads it with that commit pinned, and what
    loading it back from the Hub found."""

    plan: Plan
    commit: Commit
    new: bool
    snippet: str
    loaded_back: str | None = None


def publish(
    folder: str | Path, repository: str, options: Options = Options(), on_message: OnMessage = lambda words: None
) -> Published:
    """Publishes a package: plans, verifies, uploads one commit, loads it back from the Hub, and tags it.

    Args:
        folder: what `package` made.
        repository: owner/name on the Hub; made where there is none. The token is the Hub client's own.
        on_message: is given each line about the course of things.

    Returns what came of it; `loaded_back` is None where that very revision was published, checked and tagged before.

    Raises:
        DcaHubError: the package, the name or the Hub does not allow it, or what comes back is not what was sent.
    """
    return publish_plan(plan(folder, repository, options), on_message)


def publish_plan(plan: Plan, on_message: OnMessage = lambda words: None) -> Published:
    """`publish` of what has been planned."""
    if plan.changes or plan.state is None:
        verify(plan.folder, plan.choice, on_message)
    published = upload(plan)
    on_message(f"{'published' if published.new else 'there already'}: {plan.repository} at {published.commit.commit}")
    if published.commit.pull_request:
        on_message(f"as a pull request: {published.commit.pull_request}")
    on_message(f"\n{published.snippet}\n")
    if published.new or not is_tagged(published):
        published = replace(published, loaded_back=load_back(published))
        tag(published)
        on_message(f"loaded back from the Hub: {published.loaded_back}")
    return published


def check_name(repository: str) -> None:
    """DcaHubError for what is no `owner/name`."""
    if not _OWNER_NAME.fullmatch(repository) or len(repository) > 96 or "--" in repository or ".." in repository:
        raise failures.bad_name(repository)


def plan(folder: str | Path, repository: str, options: Options = Options()) -> Plan:
    """What publishing a package would do; only asks the Hub, and changes nothing.

    Raises:
        DcaHubError: it cannot be published so; the message says why.
    """
    folder = Path(folder).expanduser()
    check_name(repository)
    if options.pull_request and options.branch not in (None, "main"):
        raise DcaHubError(
            "A pull request is made against main", Fix("leave {} out", "branch"), Fix("leave {} out", "pull_request")
        )
    if not folder.is_dir():
        raise DcaHubError(f"There is no folder {str(folder)!r}: make a package with `dca-hub package`.")
    held = manifest.read(folder)
    if "README.md" not in held.files or not (folder / "README.md").is_file():
        raise DcaHubError(f"{folder.name!r} has no README.md: package the model again.")
    license = card.license_of((folder / "README.md").read_text(encoding="utf-8"))
    _refuse_name(license, repository)
    hub = Hub(repository, silence=options.silence)
    state = hub.state(options.branch)
    there = hub.state() if state is None and options.branch else state
    _refuse_repository(repository, there, options)
    choice = choose(options.weights, held, find_base(held), license, options.private or bool(there and there.private))
    prepared = prepare(
        folder,
        held,
        choice,
        repository,
        tag=options.tag,
        tagged=not options.pull_request or options.tag is not None,
        measured=[Path(path) for path in options.results],
    )
    return Plan(folder, repository, options, held, choice, prepared, state, _changes(prepared, state))


def verify(folder: Path, choice: Choice, on_message: OnMessage, *, with_weights: bool = True) -> None:
    """Verifies a package, with the base's weights where it holds none, unless they are too many to fetch or not wanted.

    Raises DcaHubError with the first finding that failed.
    """
    from dca_hub.verification import Outcome, verify

    borrowed = choice.base if with_weights and choice.base and choice.base.bytes <= comparison.LIMIT else None
    with comparison.completed(folder, borrowed) as whole:
        for finding in verify(whole):
            on_message(str(finding))
            if finding.outcome is Outcome.FAILED:
                raise DcaHubError(
                    f"{folder.name!r} fails its verification ({finding.check.value}: {finding.detail}): package it "
                    "again, nothing was published."
                )


def upload(plan: Plan) -> Published:
    """Makes the revision that was planned; with nothing to change there is none to make.

    Raises:
        DcaHubError: it did not come about, and the repository holds what it held before.
    """
    hub = Hub(plan.repository, silence=plan.options.silence)
    if plan.state is not None and not plan.changes:
        commit, new = Commit(plan.state.commit), False
    else:
        commit, new = _commit(plan, hub), True
    destination = replace(plan.prepared.destination, revision=commit.commit)
    return Published(plan, commit, new, card.snippet(destination))


def load_back(published: Published, *, with_weights: bool = True) -> str:
    """Loads the revision from the Hub in a fresh process with an empty cache; see `comparison.compare`."""
    plan = published.plan
    base = plan.choice.base if plan.choice.mode == "reference" or not own_weights(plan.held) else None
    commit = published.commit.commit
    return comparison.compare(plan.folder, plan.repository, commit, base, with_weights, plan.weights_bytes)


def _commit(plan: Plan, hub: Hub) -> Commit:
    options, changes, state = plan.options, plan.changes, plan.state
    if state is None:
        hub.create(options.private)
        if options.branch:
            hub.create_branch(options.branch)
        state = hub.state(options.branch)
        if state is None:
            raise DcaHubError(
                f"{plan.repository} was created, but the Hub does not show it yet: run the command again."
            )
        changes = _changes(plan.prepared, state)
    message = f"Publish {plan.held.base or plan.folder.name} with Dual Chunk Attention"
    return hub.commit(
        plan.prepared.contents,
        changes,
        state.commit,
        message,
        branch=options.branch,
        pull_request=options.pull_request,
    )


def is_tagged(published: Published) -> bool:
    """Whether the tag that the card pins is there, or there is to be none.

    One that was made of the contents may be on an earlier commit of the same contents.
    """
    plan, tag = published.plan, published.plan.prepared.tag
    if tag is None or plan.options.pull_request:
        return True
    there = Hub(plan.repository, silence=plan.options.silence).tags().get(tag)
    return there is not None and (plan.options.tag is None or there == published.commit.commit)


def tag(published: Published) -> None:
    """Gives the revision the tag that its card pins; done last, it marks a revision that was loaded back.

    Raises DcaHubError when it is on another revision already.
    """
    if not is_tagged(published):
        plan = published.plan
        assert plan.prepared.tag is not None
        Hub(plan.repository, silence=plan.options.silence).tag(plan.prepared.tag, published.commit.commit)


def _changes(prepared: Prepared, state: State | None) -> Changes:
    return prepared.contents.against(state.files if state else {}, _is_kept)


def _is_kept(name: str) -> bool:
    return name == ".gitattributes" or PurePosixPath(name).suffix.lower() in _KEPT


def _refuse_name(license: str | None, repository: str) -> None:
    known = licenses.LICENSES.get(license or "")
    problem = licenses.name_problem(known, repository) if known else None
    if problem:
        raise DcaHubError(problem)


def _refuse_repository(repository: str, state: State | None, options: Options) -> None:
    """A repository that holds something else is never replaced, and a public one never taken for a private one."""
    if state is None:
        return
    if options.private and not state.private:
        raise DcaHubError(
            f"{repository} exists already and is public",
            "make it private on its page",
            Fix("leave {} out", "private"),
        )
    others = [name for name in state.files if not _is_kept(name) and name != "README.md"]
    if others and manifest.NAME not in state.files:
        raise DcaHubError(f"{repository} already holds other files ({others[0]}): choose another name.")

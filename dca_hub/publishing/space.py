"""Publishes a Space: a folder with an app becomes a repository, and is waited for until it runs."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import constants

from dca_hub import card_text
from dca_hub.errors import DcaHubError, Fix
from dca_hub.progress import OnMessage
from dca_hub.publishing import allowed, failures
from dca_hub.publishing.contents import Changes, Contents, File
from dca_hub.publishing.hub import SILENCE, Hub, State
from dca_hub.publishing.model import check_name

_README = "README.md"
_UNDER_WAY = {"BUILDING", "RUNNING_BUILDING", "APP_STARTING", "RUNNING_APP_STARTING"}
_SECRET_NAME = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)$", re.I)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Options:
    """How to publish a Space; see `dca-hub publish-space --help`. `poll` is in seconds."""

    private: bool = False
    hardware: str | None = None
    preload: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    silence: float = SILENCE
    poll: float = 2.0


@dataclass(frozen=True)
class Plan:
    """What publishing would do. `left_out` are the files of the folder that stay on this machine."""

    repository: str
    options: Options
    sdk: str
    contents: Contents
    left_out: tuple[str, ...]
    state: State | None
    changes: Changes


def plan(folder: str | Path, repository: str, options: Options = Options()) -> Plan:
    """What publishing a Space would do; only asks the Hub, and changes nothing.

    Raises:
        DcaHubError: the folder is no Space, or holds or is given a secret.
    """
    folder = Path(folder).expanduser()
    check_name(repository)
    _check_variables(options.variables)
    if not folder.is_dir():
        raise DcaHubError(f"There is no folder {str(folder)!r}: make one with `dca-hub space --out DIR`.")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    values, text = _front_matter(folder, options)
    if values.get("app_file", "app.py") not in named:
        raise DcaHubError(f"{folder.name!r} has no {values.get('app_file', 'app.py')}: make it with `dca-hub space`.")
    files = [
        File.of(name, path)
        for name, path in named.items()
        if allowed.in_space(name) and name != _README and not _leads_out(path, folder)
    ]
    files.append(File.of(_README, card_text.with_front_matter(values, text).encode("utf-8")))
    contents = Contents.of(files, allowed.in_space)
    hub = Hub(repository, "space", silence=options.silence)
    state = hub.state()
    _refuse_repository(repository, state, options)
    left_out = tuple(name for name in named if name not in contents.files)
    changes = contents.against(state.files if state else {}, lambda name: name == ".gitattributes")
    return Plan(repository, options, values["sdk"], contents, left_out, state, changes)


def upload(plan: Plan) -> str:
    """Makes or updates the Space; returns its commit. DcaHubError when that fails; it then runs what it ran before."""
    options, hub, state = plan.options, Hub(plan.repository, "space", silence=plan.options.silence), plan.state
    if state is None:
        variables = [{"key": key, "value": value} for key, value in options.variables.items()]
        hub.create(options.private, space_sdk=plan.sdk, space_variables=variables or None)
        state = hub.state()
        if state is None:
            raise DcaHubError(
                f"{plan.repository} was created, but the Hub does not show it yet: run the command again."
            )
    commit = state.commit
    changes = plan.contents.against(state.files, lambda name: name == ".gitattributes")
    if changes:
        commit = hub.commit(plan.contents, changes, state.commit, "Publish the Space").commit
    _set_variables(hub, options.variables)
    return commit


def wait(plan: Plan, commit: str, seconds: float, on_message: OnMessage) -> None:
    """Waits until the Space runs that commit, saying each stage once.

    Raises:
        DcaHubError: it failed, was paused, or does not run after so many seconds; the Space's page has its log.
    """
    hub, told, end = Hub(plan.repository, "space", silence=plan.options.silence), None, time.monotonic() + seconds
    page = f"{constants.ENDPOINT}/spaces/{plan.repository}"
    while True:
        with failures.in_words(plan.repository):
            runtime = hub.retried(hub.api.get_space_runtime, plan.repository)
        stage = str(getattr(runtime.stage, "value", runtime.stage))
        runs_it = runtime.raw.get("sha", commit) == commit  # for a while after a push, the version before it runs on
        if stage != told:
            on_message(f"{stage.lower().replace('_', ' ')}{'' if runs_it else ' (the version before)'}")
            told = stage
        if stage == "RUNNING" and runs_it:
            return
        if stage not in _UNDER_WAY and stage != "RUNNING":
            reason = failures.scrub(runtime.raw.get("errorMessage") or "see its log")
            raise DcaHubError(
                f"The Space does not run ({stage.lower().replace('_', ' ')}: {reason}): its log is at {page}."
            )
        if time.monotonic() > end:
            raise DcaHubError(
                f"The Space is not running after {seconds:,.0f} s: its files are uploaded; watch it at {page}."
            )
        time.sleep(plan.options.poll)


def _front_matter(folder: Path, options: Options) -> tuple[dict, str]:
    """The Space's settings at the head of its README.md, with what the options add."""
    path = folder / _README
    if not path.is_file():
        raise DcaHubError(f"{folder.name!r} has no README.md with the Space's settings: make it with `dca-hub space`.")
    values, text = card_text.front_matter(path.read_text(encoding="utf-8"))
    if values.get("sdk") not in constants.SPACES_SDK_TYPES:
        raise DcaHubError(f"README.md of {folder.name!r} names no sdk: make the folder with `dca-hub space --out DIR`.")
    if options.hardware:
        values["suggested_hardware"] = options.hardware
    preload = [*values.get("preload_from_hub", []), *options.preload]
    if preload:
        values["preload_from_hub"] = list(dict.fromkeys(preload))
    return values, text


def _leads_out(path: Path, folder: Path) -> bool:
    """Whether a link leads out of the folder: to a file that nobody put there to be published."""
    return folder.resolve() not in path.resolve().parents


def _refuse_repository(repository: str, state: State | None, options: Options) -> None:
    if state is not None and options.private and not state.private:
        raise DcaHubError(
            f"{repository} exists already and is public",
            "make it private on its page",
            Fix("leave {} out", "private"),
        )


def _check_variables(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        if not _VARIABLE_NAME.fullmatch(name):
            raise DcaHubError(f"{name!r} is not the name of a variable: write NAME=VALUE.")
        if _SECRET_NAME.search(name):
            raise DcaHubError(
                f"{name} looks like a secret, and everybody can read a Space's variables: add it as a secret in the "
                "Space's settings."
            )
        allowed.refuse_secrets(name, value.encode("utf-8"))


def _set_variables(hub: Hub, variables: dict[str, str]) -> None:
    """Sets what differs: each change makes the Space start again."""
    if not variables:
        return
    with failures.in_words(hub.repository):
        known = hub.retried(hub.api.get_space_variables, hub.repository)
        for name, value in variables.items():
            if name not in known or known[name].value != value:
                hub.retried(hub.api.add_space_variable, hub.repository, name, value)

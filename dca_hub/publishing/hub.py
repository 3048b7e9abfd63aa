"""A repository on the Hub, through its client: what it holds, and new revisions of it, whole or not at all."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    errors,
    get_session,
    get_token,
)
from huggingface_hub.hf_api import RepoFile

from dca_hub.errors import DcaHubError
from dca_hub.publishing import failures
from dca_hub.publishing.contents import Changes, Contents, File, Held, Source
from dca_hub.version import VERSION

Kind = Literal["model", "space"]
SILENCE = 120.0  # seconds without a byte after which a connection counts as lost
_TRIES = 4
_PAUSE = 1.0  # seconds before the second try, twice as long before each one after


@dataclass(frozen=True)
class State:
    """A repository at one revision: its commit, and its files by name."""

    commit: str
    private: bool
    gated: bool
    files: dict[str, Held]


@dataclass(frozen=True)
class Commit:
    """A revision that was made, or that was there already; `pull_request` is the address of the one it waits in."""

    commit: str
    pull_request: str | None = None


class Hub:
    """One repository. Every method raises DcaHubError, in one sentence, for what goes wrong between here and there."""

    def __init__(self, repository: str, kind: Kind = "model", *, silence: float = SILENCE):
        self.repository, self.kind = repository, kind
        self.api = HfApi(library_name="dca-hub", library_version=VERSION)
        get_session().timeout = silence  # the client's own default waits for ever

    def state(self, revision: str | None = None) -> State | None:
        """What the repository holds at a revision; None where there is no such repository or revision."""
        with failures.in_words(self.repository):
            try:
                info = self.retried(self.api.repo_info, self.repository, repo_type=self.kind, revision=revision)
                listed = self.retried(self._list, info.sha)
            except errors.GatedRepoError:
                raise
            except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
                return None
        return State(str(info.sha), bool(info.private), bool(getattr(info, "gated", False)), listed)

    def _list(self, commit: str) -> dict[str, Held]:
        tree = self.api.list_repo_tree(self.repository, recursive=True, revision=commit, repo_type=self.kind)
        files = [entry for entry in tree if isinstance(entry, RepoFile)]
        return {file.path: Held(file.size, file.blob_id, file.lfs.sha256 if file.lfs else None) for file in files}

    def create(self, private: bool, **space) -> None:
        """Makes the repository; the one that is there already will do."""
        if get_token() is None:
            raise failures.no_token()
        with failures.in_words(self.repository):
            self.retried(
                self.api.create_repo, self.repository, repo_type=self.kind, private=private, exist_ok=True, **space
            )

    def create_branch(self, branch: str) -> None:
        with failures.in_words(self.repository):
            self.retried(self.api.create_branch, self.repository, branch=branch, repo_type=self.kind, exist_ok=True)

    def commit(
        self,
        contents: Contents,
        changes: Changes,
        parent: str,
        message: str,
        *,
        branch: str | None = None,
        pull_request: bool = False,
    ) -> Commit:
        """Makes one revision out of the changes, on top of the commit `parent` and nothing else.

        A try whose answer got lost is looked up before the next one, so that no revision is made twice.

        Raises:
            failures.Concurrent: somebody else pushed since `parent`.
        """
        operations = [_addition(contents.files[name]) for name in (*changes.added, *changes.changed)]
        operations += [CommitOperationDelete(name, is_folder=False) for name in changes.removed]
        options = {
            "repo_type": self.kind,
            "commit_message": message,
            "parent_commit": parent,
            "revision": branch,
            "create_pr": pull_request,
        }
        with failures.in_words(self.repository):
            for attempt in range(_TRIES):
                try:
                    made = self.api.create_commit(self.repository, operations, **options)
                    return Commit(made.oid, made.pr_url)
                except Exception as error:
                    landed = None if pull_request else self._landed(error, contents, changes, branch)
                    if landed:
                        return landed
                    # A pull request has no parent that a second one would clash with, and the client has tried the
                    # uploads, which it wraps in RuntimeError, several times itself.
                    final = pull_request or isinstance(error, RuntimeError) or attempt == _TRIES - 1
                    if final or not failures.is_passing(error):
                        raise
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("unreachable")

    def _landed(self, error: Exception, contents: Contents, changes: Changes, branch: str | None) -> Commit | None:
        """The revision, if an earlier try made it though its answer got lost."""
        if not (failures.is_network(error) or (failures.status(error) or 0) >= 412):
            return None
        try:
            now = self.state(branch)
        except DcaHubError:
            return None
        gone = set(changes.removed)
        if now and not contents.against(now.files, lambda name: name not in gone):
            return Commit(now.commit)
        return None

    def tag(self, name: str, commit: str) -> None:
        """Tags a commit. DcaHubError when the tag is there already, on another commit."""
        with failures.in_words(self.repository):
            held = self.tags().get(name)
            if held is None:
                self.retried(self.api.create_tag, self.repository, tag=name, revision=commit, exist_ok=True)
            elif held != commit:
                raise DcaHubError(f"{self.repository} has a tag {name!r} on another revision already: choose another.")

    def tags(self) -> dict[str, str]:
        with failures.in_words(self.repository):
            refs = self.retried(self.api.list_repo_refs, self.repository, repo_type=self.kind)
        return {ref.name: ref.target_commit for ref in refs.tags}

    def retried(self, call, *args, **options):
        """A call that may be made twice without harm, tried a few times."""
        for attempt in range(_TRIES):
            try:
                return call(*args, **options)
            except Exception as error:
                if attempt == _TRIES - 1 or not failures.is_passing(error):
                    raise
            time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("unreachable")


def _addition(file: File) -> CommitOperationAdd | CommitOperationCopy:
    if isinstance(file.content, Source):
        return CommitOperationCopy(
            file.content.path,
            file.name,
            src_revision=file.content.revision,
            src_repo_id=file.content.repository,
            src_repo_type="model",
        )
    content = str(file.content) if isinstance(file.content, Path) else file.content
    return CommitOperationAdd(file.name, content)


def copies_across_repositories() -> bool:
    """Whether this version of the client can have the Hub copy between repositories."""
    return "src_repo_id" in getattr(CommitOperationCopy, "__dataclass_fields__", {})

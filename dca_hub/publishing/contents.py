"""What a revision of a repository holds: every file by name, with its hash, wherever its bytes are."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dca_hub import manifest
from dca_hub.publishing import allowed


@dataclass(frozen=True)
class Source:
    """A file of another repository, which the Hub copies by itself."""

    repository: str
    revision: str
    path: str


@dataclass(frozen=True)
class File:
    """One file: `content` is its bytes, its path on this machine, or where on the Hub it is copied from."""

    name: str
    content: bytes | Path | Source
    sha256: str
    size: int
    oid: str | None = None  # the git hash of a file of another repository

    @classmethod
    def of(cls, name: str, content: bytes | Path, sha256: str | None = None) -> "File":
        """A file of this machine; `sha256` spares reading it where it is known."""
        if isinstance(content, bytes):
            return cls(name, content, hashlib.sha256(content).hexdigest(), len(content))
        return cls(name, content, sha256 or manifest.digest(content), content.stat().st_size)

    @property
    def text(self) -> str:
        """The text of a file whose content is held here."""
        assert isinstance(self.content, bytes)
        return self.content.decode("utf-8")

    @cached_property
    def git_oid(self) -> str | None:
        """The hash by which git knows the file, if it is not a large one."""
        if isinstance(self.content, Source):
            return self.oid
        total = hashlib.sha1(b"blob %d\0" % self.size)
        if isinstance(self.content, bytes):
            total.update(self.content)
        else:
            with self.content.open("rb") as file:
                while block := file.read(1 << 20):
                    total.update(block)
        return total.hexdigest()


@dataclass(frozen=True)
class Held:
    """A file as the Hub lists it: `sha256` is None for one that git holds itself."""

    size: int
    git_oid: str
    sha256: str | None

    def equals(self, file: File) -> bool:
        if self.sha256 is not None:
            return self.sha256 == file.sha256
        return self.size == file.size and self.git_oid == file.git_oid


@dataclass(frozen=True)
class Changes:
    """What a new revision does to the one before it: names, sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True)
class Contents:
    """All that a revision is to hold."""

    files: dict[str, File] = field(default_factory=dict)

    @classmethod
    def of(cls, files: list[File], may: Callable[[str], bool]) -> "Contents":
        """The files, each looked at for secrets. ValueError for one that the allow-list does not know."""
        for file in files:
            if not may(file.name):
                raise ValueError(file.name)
            if not isinstance(file.content, Source):
                allowed.refuse_secrets(file.name, file.content)
        return cls({file.name: file for file in sorted(files, key=lambda one: one.name)})

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that are the same for the same files."""
        lines = "".join(f"{name} {file.sha256}\n" for name, file in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:12]

    def against(self, held: dict[str, Held], kept: Callable[[str], bool]) -> Changes:
        """What has to change for a repository that holds `held`; files that are `kept` stay, whatever they are."""
        added = [name for name in self.files if name not in held]
        changed = [name for name, file in self.files.items() if name in held and not held[name].equals(file)]
        removed = [name for name in held if name not in self.files and not kept(name)]
        return Changes(tuple(sorted(added)), tuple(sorted(changed)), tuple(sorted(removed)))

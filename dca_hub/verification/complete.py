"""A package without weights made complete: with those of its base model, from the Hub or from the cache."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dca_hub import manifest, sources
from dca_hub.checkpoints import find_weights


@contextmanager
def with_weights_of(repository: str, revision: str | None, folder: Path) -> Iterator[Path]:
    """A folder of links that has all of a package, and the weights of its base model beside it.

    Raises:
        DcaHubError: the weights cannot be had, or are damaged.
    """
    found, held = find_weights(sources.resolve(repository, revision=revision).folder), manifest.read(folder)
    with tempfile.TemporaryDirectory() as temporary:
        complete, files = Path(temporary), dict(held.files)
        for name in held.files:
            (complete / name).parent.mkdir(exist_ok=True)
            (complete / name).symlink_to((folder / name).resolve())
        for name in found.names:
            origin = (found.folder / name).resolve()
            (complete / name).symlink_to(origin)
            files[name] = {"sha256": manifest.digest(origin), "size": origin.stat().st_size}
        replace(held, weights="link", files=files).write(complete)
        yield complete

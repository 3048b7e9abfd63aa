"""Which way the weights go, and why."""

import pytest

from dca_hub.errors import DcaHubError
from dca_hub.manifest import Manifest
from dca_hub.publishing.contents import Held
from dca_hub.publishing.weights import LARGE, Base, choose

SHA = "a" * 64


def package(weights: bool = True, base: str | None = "org/base", sha: str = SHA) -> Manifest:
    files = {"config.json": {"sha256": "c" * 64, "size": 10}}
    if weights:
        files["model.safetensors"] = {"sha256": sha, "size": 1000}
    return Manifest(base, "f" * 40, "copy" if weights else "none", files)


def base(gated: bool = False, size: int = 1000, weights: bool = True) -> Base:
    return Base("org/base", "f" * 40, gated, {"model.safetensors": Held(size, "b" * 40, SHA)} if weights else {})


@pytest.mark.parametrize(
    "held, there, license, mode, why",
    [
        (package(), base(), "apache-2.0", "server-copy", "may be redistributed"),
        (package(False), base(), "apache-2.0", "server-copy", "may be redistributed"),
        (package(), base(gated=True), "llama3.1", "reference", "gated"),
        (package(False), base(size=LARGE + 1), "apache-2.0", "reference", "GB of weights are at"),
        (package(), base(), None, "reference", "not known here"),
        (package(), base(), "cc-by-nc-4.0", "reference", "not known here"),
        (package(base=None), None, "apache-2.0", "copy", "not on the Hub"),
        (package(), None, "apache-2.0", "copy", "not on the Hub any more"),
        (package(sha="d" * 64), base(), "apache-2.0", "copy", "differ"),
        (package(), base(weights=False), "apache-2.0", "copy", "no safetensors"),
    ],
)
def test_the_default_suits_license_and_size(held, there, license, mode, why):
    choice = choose(None, held, there, license, private=False)
    assert choice.mode == mode and why in choice.why


@pytest.mark.parametrize(
    "asked, held, there, words",
    [
        ("copy", package(False), base(), "holds no weights"),
        ("copy", package(), base(gated=True), "bypass its gate"),
        ("server-copy", package(), base(gated=True), "bypass its gate"),
        ("reference", package(sha="d" * 64), base(), "differ"),
        ("reference", package(base=None), None, "not on the Hub"),
        ("server-copy", package(), base(weights=False), "no safetensors"),
        (None, package(False, base=None), None, "no way to publish"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(asked, held, there, words):
    with pytest.raises(DcaHubError, match=words):
        choose(asked, held, there, "apache-2.0", private=False)


def test_a_private_copy_of_a_gated_base_is_the_users_own():
    assert choose("copy", package(), base(gated=True), "llama3.1", private=True).mode == "copy"

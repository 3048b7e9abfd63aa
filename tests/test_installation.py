"""What `pip install .` installs: every package, and every file that the packages read."""

import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {"dca_hub.modeling": "modeling", "dca_hub.configs": "configs"}


@pytest.fixture(scope="module")
def setuptools_settings():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib comes with Python 3.11")
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def folders(settings) -> dict[str, Path]:
    return {name: ROOT / OUTSIDE.get(name, name.replace(".", "/")) for name in settings["packages"]}


def test_every_package_is_installed(setuptools_settings):
    there = {path.parent for path in (ROOT / "dca_hub").rglob("__init__.py")}
    assert there == {path for path in folders(setuptools_settings).values() if path.is_relative_to(ROOT / "dca_hub")}


def test_every_file_that_is_no_code_is_installed(setuptools_settings):
    data = setuptools_settings["package-data"]
    packages = folders(setuptools_settings)
    longest_first = sorted(packages, key=lambda name: -len(str(packages[name])))
    for folder in (ROOT / "dca_hub", ROOT / "configs", ROOT / "modeling"):
        for path in folder.rglob("*"):
            if path.suffix in (".py", ".pyc") or path.is_dir() or path.name.startswith("."):
                continue
            package = next(name for name in longest_first if path.is_relative_to(packages[name]))
            name = path.relative_to(packages[package]).as_posix()
            patterns = [*data["*"], *data.get(package, ())]
            assert any(fnmatch(name, one) and name.count("/") == one.count("/") for one in patterns), path


def test_what_is_installed_is_what_the_app_needs_without_the_app():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib comes with Python 3.11")
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = {Requirement(line).name: Requirement(line) for line in project["dependencies"]}
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = {Requirement(line).name: Requirement(line) for line in lines if not line.startswith("#")}
    assert needed.keys() - installed.keys() == {"gradio", "python-multipart", "markdown-it-py", "markupsafe"}
    for name in installed.keys() - {"torch"}:
        assert installed[name] == needed[name]
    assert installed["torch"].specifier.contains("2.14.0")  # what vLLM 0.33 names

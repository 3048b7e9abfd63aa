"""What `pip install .` installs: every package, and every file that the packages read."""

import os
import shutil
import subprocess
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


def requirements(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {Requirement(line).name: Requirement(line) for line in lines if not line.startswith("#")}


def test_the_app_needs_the_core_the_extras_and_little_of_its_own():
    """The same versions everywhere, but of torch, which vLLM names one of."""
    if sys.version_info < (3, 11):
        pytest.skip("tomllib comes with Python 3.11")
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {Requirement(line).name: Requirement(line) for line in project["dependencies"]}
    app, extras = (
        requirements("requirements.txt"),
        requirements("requirements-pdf.txt") | requirements("requirements-quantize.txt"),
    )
    plots = {"matplotlib": requirements("requirements-evaluate.txt")["matplotlib"]}
    others = core | extras | plots
    assert app.keys() - others.keys() == {"gradio", "python-multipart", "markdown-it-py", "markupsafe"}
    assert others.keys() <= app.keys()
    assert all(others[name] == app[name] for name in others.keys() - {"torch"})
    assert core["torch"].specifier.contains("2.14.0")  # what vLLM 0.33 names
    for name in ("requirements-evaluate.txt", "requirements-finetune.txt"):
        held = requirements(name)
        tested = requirements("requirements-test.txt")
        assert all(held[one].specifier == tested[one].specifier for one in held.keys() & tested.keys()), name


def test_of_a_checkout_only_modeling_and_configs_are_part_of_the_package():
    code = "import dca_hub.modeling.dual_chunk_geometry, dca_hub.configs\nimport importlib.util as u\n"
    code += "print([name for name in ('tests', 'benchmarks', 'docs', 'dca_hub') if u.find_spec('dca_hub.' + name)])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wheel_and_sdist_are_the_same_and_work_in_an_environment_of_their_own(tmp_path):
    """Built without network by the setuptools that is here, installed without dependencies, and used from outside."""
    pytest.importorskip("build")
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", "*.egg-info", "__pycache__", "build", "dist", ".venv*", "docs", "tests")
    shutil.copytree(ROOT, source, ignore=ignored)
    run = lambda *command, **options: subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True, **options
    )
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", source)  # the sdist, its wheel
    for built in (tmp_path / "dist").iterdir():
        options = [
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--no-compile",
            "--target",
            tmp_path / built.suffix,
        ]
        run(sys.executable, "-m", "pip", "install", "--quiet", *options, built)
    place, other = tmp_path / ".whl", tmp_path / ".gz"
    assert _files(place / "dca_hub") == _files(other / "dca_hub")
    assert not (place / "dca_hub" / "tests").exists() and (place / "dca_hub" / "modeling").is_dir()
    code = (
        "import dca_hub, sys; assert dca_hub.__file__.startswith(sys.argv[1]), dca_hub.__file__\n"
        "from dca_hub import load, package, verify\n"
        "assert load('demo').context == 16384\n"
        "package('demo', sys.argv[1] + '/demo-dca')\n"
        "assert {one.outcome.name for one in verify(sys.argv[1] + '/demo-dca', tokens=1024)} <= {'PASSED', 'SKIPPED'}\n"
        "from dca_hub import cli; cli.main(['space', '--out', sys.argv[1] + '/space'])"
    )
    run(sys.executable, "-c", code, place, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(place)})
    assert (place / "space" / "app.py").is_file() and (place / "space" / "dca_hub" / "modeling").is_dir()


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

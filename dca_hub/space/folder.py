"""A Space as a folder: everything that its repository needs, ready to run by itself."""

import json
import re
import shutil
import tempfile
from importlib import metadata, resources
from pathlib import Path

import yaml

from dca_hub import catalogue
from dca_hub.errors import DcaHubError, Fix
from dca_hub.space.settings import FILE, Settings

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
_INSIDE = ("modeling", "configs")  # beside the package in a checkout, inside it when installed, and so in a Space
_APP_EXTRA = re.compile(r"(;| and) extra == .app.$")
_TITLE, _SHORT = "DCA Hub", "Chat with PDFs far beyond a model's trained length"

APP = '''"""The Space: `python app.py`. Options are in `python app.py --help`; each is an environment variable too."""

import os
import sys
from pathlib import Path

# Before the libraries are imported: no usage reports.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from dca_hub.space.run import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
'''


def write(
    out: Path, *, model: str = "demo", models: str = "", title: str = _TITLE, hardware: str | None = None,
    force: bool = False,
) -> list[str]:  # fmt: skip
    """Writes the folder and gives its files' names; it appears only when it is whole.

    model, models: what the Space begins with and what visitors may load, by catalogue name. hardware: a suggestion to
    whoever duplicates the Space.

    Raises DcaHubError when `out` is there and `force` is not given, when it holds something else than a Space, or for a
    model that is not in the catalogue.
    """
    settings = Settings(model=catalogue.find(model).name, models=models, public=True)
    _check_place(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as made:
        folder = Path(made) / out.name
        _fill(folder, settings, title, hardware)
        if out.exists():
            out.rename(Path(made) / "before")
        folder.rename(out)
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def _check_place(out: Path, force: bool) -> None:
    if not out.exists():
        return
    if not force:
        raise DcaHubError(
            f"{str(out)!r} already exists", "choose another folder", Fix("replace it with {}", "force", True)
        )
    if not out.is_dir() or (any(out.iterdir()) and not (out / "app.py").is_file()):
        raise DcaHubError(f"{str(out)!r} is not a Space, so it is not replaced: choose another folder.")


def _fill(folder: Path, settings: Settings, title: str, hardware: str | None) -> None:
    folder.mkdir()
    with resources.as_file(resources.files("dca_hub")) as package:
        shutil.copytree(package, folder / "dca_hub", ignore=_LEFT_OUT)
    for name in _INSIDE:
        with resources.as_file(resources.files(f"dca_hub.{name}")) as part:
            shutil.copytree(part, folder / "dca_hub" / name, ignore=_LEFT_OUT, dirs_exist_ok=True)
    (folder / "app.py").write_text(APP, encoding="utf-8")
    (folder / "requirements.txt").write_text(_requirements(), encoding="utf-8")
    (folder / "README.md").write_text(_readme(settings, title, hardware), encoding="utf-8")
    chosen = {"model": settings.model, "models": settings.models}
    (folder / FILE).write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    license = Path(str(resources.files("dca_hub"))).parent / "LICENSE"
    if license.is_file():
        shutil.copyfile(license, folder / "LICENSE")


def _requirements() -> str:
    """Those of this package; Gradio itself comes with the Space's sdk_version."""
    file = Path(str(resources.files("dca_hub"))).parent / "requirements.txt"
    if file.is_file() and (file.parent / "pyproject.toml").is_file():
        return file.read_text(encoding="utf-8")
    needs = [need for need in metadata.requires("dca-hub") or () if _APP_EXTRA.search(need)]
    return "".join(f"{_APP_EXTRA.sub('', need)}\n" for need in needs)


def _readme(settings: Settings, title: str, hardware: str | None) -> str:
    entries = [catalogue.find(name) for name in settings.choices()]
    hub = [entry.base for entry in entries if not entry.is_local]
    front = {
        "title": title,
        "emoji": "📖",
        "colorFrom": "green",
        "colorTo": "blue",
        "sdk": "gradio",
        "sdk_version": metadata.version("gradio"),
        "python_version": "3.12",
        "app_file": "app.py",
        "license": "apache-2.0",
        "short_description": _SHORT,
        "models": hub,
        "preload_from_hub": hub,
        "suggested_hardware": hardware,
        "tags": ["long-context", "dual-chunk-attention", "mcp-server"],
    }
    kept = {key: value for key, value in front.items() if value}
    names = "\n".join(f"- `{entry.name}`" + ("" if entry.is_local else f" ({entry.base})") for entry in entries)
    return f"""---
{yaml.safe_dump(kept, sort_keys=False, allow_unicode=True).strip()}
---

# {title}

Ask questions about PDFs that are many times longer than the window a model was trained at, test its memory with
needles in haystacks, and see how Dual Chunk Attention ([arXiv 2402.17463](https://arxiv.org/abs/2402.17463)) does it
without training.

Models that can be loaded here:

{names}

It runs on any machine too: `pip install -r requirements.txt && python app.py`. Every option of `python app.py --help`
is a variable of the Space as well: `--max-pages` is `DCA_MAX_PAGES`.
"""

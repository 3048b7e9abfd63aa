"""What the documents point at is there: files, headings, modules and their names."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/*/*.md")]
_CODE = re.compile(r"```.*?```", re.DOTALL)


def headings(document: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", _CODE.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document):
    text = _CODE.sub("", document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), target
        assert not anchor or anchor in headings(path), target


def test_every_file_on_the_architecture_page_exists():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w./]+/[\w./]*|[\w/]+\.py)`", text)
    assert len(named) > 15
    for name in (name for name in named if "_X." not in name):
        places = (ROOT, ROOT / "modeling", ROOT / "dca_hub", ROOT / "dca_hub" / "vllm_plugin")
        assert any((place / name).exists() for place in places), name


def test_every_command_of_python_in_the_documents_is_a_module():
    for document in DOCUMENTS:
        for name in re.findall(
            r"python3? -m (dca_hub[\w.]*|benchmarks[\w.]*|examples[\w.]*)", document.read_text("utf-8")
        ):
            parts = name.split(".")
            path = ROOT.joinpath(*parts)
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), f"{document.name}: {name}"


def test_the_api_page_names_what_is_exported():
    import dca_hub

    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in set(dca_hub.__all__) - {"__version__"}:
        assert name in text
    for module in re.findall(r"`(dca_hub(?:\.\w+)+)`", text):
        import_module(module)

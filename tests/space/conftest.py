"""A running Space with the demo model, browsers at its door, and PDFs to bring."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dca_hub.documents.example import write_example
from dca_hub.space.build import build, serve
from dca_hub.space.context import Context
from dca_hub.space.settings import Settings
from support import pdfs as pdf_builders

_ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(os.environ.get("DCA_SCREENSHOTS", _ROOT / "screenshots"))
KEY = "48213"
_PARAGRAPHS = (
    "The keeper of the lighthouse wrote the weather into his book every evening, and nobody ever read it.",
    "In the third winter a letter came by the mail boat, and he laid it unopened beside the lamp.",
    f"The pass key is {KEY}. Remember it. {KEY} is the pass key.",
    "When the ice broke he rowed to the village and asked for bread, paper and a new wick.",
)


@pytest.fixture(scope="session")
def builders():
    return pdf_builders


@dataclass
class Space:
    url: str
    context: Context

    def newest(self):
        """The session that was used last."""
        return max(self.context.sessions._held.values(), key=lambda session: session.used)


def run_space(**settings) -> tuple:
    blocks, context = build(
        Settings(**{"max_file_mb": 5, "host": "127.0.0.1", "port": 7900, "read_ahead": False, **settings})
    )
    return blocks, Space(serve(blocks, context, wait=False).rstrip("/"), context)


@pytest.fixture(scope="session")
def make_space():
    """Starts a Space that the caller ends."""
    return run_space


@pytest.fixture(scope="session")
def space():
    blocks, running = run_space()
    yield running
    blocks.close()
    running.context.close()


@pytest.fixture
def another_space():
    """Starts further Spaces with other settings; they end with the test."""
    started = []

    def start(**settings) -> Space:
        started.append(run_space(**settings))
        return started[-1][1]

    yield start
    for blocks, running in started:
        blocks.close()
        running.context.close()


@pytest.fixture(scope="session")
def pdfs(tmp_path_factory, builders) -> dict[str, Path]:
    """Good and bad PDFs by name: short (3 pages with a key), example (29 pages), and what goes wrong."""
    folder = tmp_path_factory.mktemp("pdfs")
    files = {
        "short": builders.make_pdf(
            [_wrapped(text) for text in (_PARAGRAPHS[0], " ".join(_PARAGRAPHS[1:3]), _PARAGRAPHS[3])]
        ),
        "disguised": b"<!doctype html><html><body><h1>Not a PDF</h1></body></html>",
        "scanned": builders.scanned(),
        "locked": builders.encrypted("open sesame"),
        "damaged": b"%PDF-1.7\n" + b"garbage " * 50,
        "empty": b"",
        "cycle": builders.cyclic_page_tree(),
        "deep": builders.deep_arrays(),
    }
    paths = {}
    for name, content in files.items():
        paths[name] = folder / f"{name}.pdf"
        paths[name].write_bytes(content)
    paths["example"] = write_example(folder / "example.pdf")
    return paths


def _wrapped(text: str) -> str:
    return re.sub(r"(.{1,70})( |$)", r"\1\n", text)


@pytest.fixture(scope="session")
def browser():
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Visitor:
    """One browser tab. `check` asserts that nothing went wrong in it and nothing left the machine."""

    def __init__(self, browser, space: Space, **options):
        options = {"viewport": {"width": 1366, "height": 860}, "accept_downloads": True, **options}
        self.space = space
        self.browser_context = browser.new_context(**options)
        self.page = self.browser_context.new_page()
        self.page.set_default_timeout(60_000)
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self.page.on("console", self._console)
        self.page.on("request", self._request)

    def _console(self, message) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    def _request(self, request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in ("127.0.0.1", "localhost"):
            self.problems.append(f"outside request: {request.url}")

    def open(self, query: str = "") -> "Visitor":
        self.page.goto(self.space.url + "/" + query)
        self.page.locator("#tab-chat-button").wait_for()
        self.page.locator("#model-chip").wait_for()
        # A page that was loaded again has its session only then.
        self.page.wait_for_function("document.querySelector('#token textarea, #token input')?.value")
        return self

    def bring(self, *paths: Path) -> None:
        """Uploads PDFs and waits until each is read or refused."""
        rows = self.page.locator("#documents .dh-document")
        before = rows.count()
        self.page.locator("#upload input[type=file]").set_input_files([str(path) for path in paths])
        rows.nth(before + len(paths) - 1).wait_for(state="attached")
        self.page.locator("#documents .dh-spinner").wait_for(state="detached")

    def ask(self, question: str) -> None:
        """Asks and waits for the whole answer."""
        turns = self.page.locator("#past .dh-turn")
        before = turns.count()
        self.page.locator("#question textarea").fill(question)
        self.page.locator("#ask").click()
        turns.nth(before).wait_for()
        self.page.locator("#ask").wait_for()

    def begin(self, question: str) -> None:
        """Asks and waits until the document is being read for it."""
        self.page.locator("#question textarea").fill(question)
        self.page.locator("#ask").click()
        self.page.locator(".dh-reading").wait_for()

    def shoot(self, name: str, **options) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(350)
        self.page.screenshot(path=str(SCREENSHOTS / f"{name}.png"), **options)

    def check(self) -> None:
        assert not self.problems, self.problems

    def leave(self) -> None:
        self.browser_context.close()


@pytest.fixture
def visit(browser, space):
    """Opens tabs; in the end each is checked and closed."""
    visitors = []

    def opened(query: str = "", space: Space = space, **options) -> Visitor:
        visitors.append(Visitor(browser, space, **options))
        return visitors[-1].open(query)

    yield opened
    for visitor in visitors:
        visitor.leave()
    for visitor in visitors:
        visitor.check()

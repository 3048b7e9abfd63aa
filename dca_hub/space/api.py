"""The same functions for programs: gradio_client, REST, and, with --mcp, tools for language models."""

import functools
import json
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.utils import get_function_description

from dca_hub import catalogue
from dca_hub.conversation import Sampling
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import needle as needles
from dca_hub.space import run_bounds, uploads
from dca_hub.space.answers import begin_turn
from dca_hub.space.callers import caller_of
from dca_hub.space.context import Context
from dca_hub.space.export import turn_as_json
from dca_hub.space.failures import sentence
from dca_hub.space.lane import Rank
from dca_hub.space.sessions import Session
from dca_hub.space.turns import SIDES
from dca_hub.space.widgets import uploads_only

_EXAMPLE = "document.pdf"


def build(context: Context) -> None:
    """Adds the four functions; their docstrings are what other programs read."""
    functions = _Functions(context)
    with gr.Column(visible=False):
        pdf = uploads_only(gr.File(label="pdf", file_types=[".pdf"]), context.settings)
        # Gradio's own example is an address, which a public Space does not fetch.
        pdf.example_payload = lambda: {"path": _EXAMPLE, "orig_name": _EXAMPLE, "meta": {"_type": "gradio.FileData"}}
        question, pages, password = (
            gr.Textbox(label="question"),
            gr.Textbox("", label="pages"),
            gr.Textbox("", label="password"),
        )
        attention = gr.Radio(list(SIDES), value="dca", label="attention")
        tokens = gr.Number(128, label="max_new_tokens", precision=0)
        lengths, depths = gr.Textbox("512,1024,2048", label="lengths"), gr.Number(3, label="depths", precision=0)
        trials = gr.Number(1, label="trials", precision=0)
        haystack = gr.Radio(["prose", "grass"], value="prose", label="haystack")
        compared = gr.Radio(list(SIDES), value="both", label="attention")
        sparse = gr.Checkbox(False, label="sparse")
        result, button = _json("result"), gr.Button()
    queued = {"concurrency_id": "api", "concurrency_limit": context.settings.queue}
    for function, inputs, how in (
        (functions.ask, [pdf, question, attention, pages, password, tokens, sparse], queued),
        (functions.needle, [lengths, depths, trials, haystack, compared, sparse], queued),
        (functions.inspect_pdf, [pdf, pages, password], queued),
        (functions.models, [], {"queue": False}),
    ):
        _describe(function, inputs)
        # Arguments come as they were given, so that the functions say in their own words what they must be.
        button.click(function, inputs, result, api_name=function.__name__, preprocess=False, **how)


def _describe(function: Callable, inputs: Sequence[gr.components.Component]) -> None:
    """Tells who reads the API's page what the docstring says of each argument; tools are told it by Gradio."""
    _, told, _ = get_function_description(function)
    told.pop("request", None)  # which Gradio fills in
    for component, words in zip(inputs, told.values(), strict=True):
        described = {**component.api_info_as_input(), "additional_description": words}
        component.api_info_as_input = lambda described=described: described
        if isinstance(component, gr.Textbox):  # whose example would be Hello!!, also for pages and password
            example = "What is the pass key?" if component.value is None else component.value
            component.example_payload = lambda example=example: example
        elif isinstance(component, gr.Checkbox):  # whose example would be True, which few machines can serve
            component.example_payload = lambda example=component.value: example


class _Functions:
    def __init__(self, context: Context):
        self.context = context
        # Bound methods take no attributes; these are functions of their own, with the docstrings of the tools.
        self.ask, self.needle = (_as_function(f, context) for f in (self._ask, self._needle))
        self.inspect_pdf, self.models = (_as_function(f, context) for f in (self._inspect_pdf, self._models))

    def _ask(
        self,
        pdf: dict,
        question: str,
        attention: str = "dca",
        pages: str = "",
        password: str = "",
        max_new_tokens: int = 128,
        sparse: bool = False,
        request: gr.Request | None = None,
    ) -> Iterator[dict]:
        """Answer a question about a PDF, and name the pages that the answer rests on.

        Args:
            pdf: The PDF file, an upload or a data URL; it may be many times longer than the window of the training.
            question: The question, in plain words.
            attention: "dca" answers with Dual Chunk Attention, "plain" with the unchanged base model, "both" with each.
            pages: Only these pages, such as "3-7,9"; empty for all.
            password: The password of an encrypted PDF; empty for none.
            max_new_tokens: The longest answer, in tokens.
            sparse: True reads texts of 32k tokens or more with block-sparse attention, an approximation; needs a GPU.

        Returns:
            The question and, for each attention, the answer's text, citations (document, page, quote, score), looks
            (for each page, the share of the model's attention while it wrote; with "dca" alone), whether the PDF was
            read sparsely, and timings; while the answer is written, what there is of it.
        """
        self.check(_is_one_of(SIDES, attention), 'attention must be "dca", "plain" or "both".')
        tokens = run_bounds.whole(max_new_tokens, "max_new_tokens", 1, self.context.settings.max_answer)
        self.check_sparse(sparse, attention)
        with self.session() as session:
            yield from self.read(session, pdf, pages, password)
            session.sparse = sparse
            if sparse:  # a visitor of the page has no choice there, and is told why
                self.context.host.refuse_sparse(session.document_tokens)
            turn = begin_turn(session, str(question or ""), attention)
            for _ in self.context.answers.ask(session, turn, Sampling(tokens)):
                yield turn_as_json(turn)
            failed = [answer.problem for answer in turn.answers.values() if answer.state == "failed"]
            self.check(not failed, failed[0] if failed else "")
            yield turn_as_json(turn)

    def _needle(
        self,
        lengths: str = "512,1024,2048",
        depths: int = 3,
        trials: int = 1,
        haystack: str = "prose",
        attention: str = "both",
        sparse: bool = False,
        request: gr.Request | None = None,
    ) -> Iterator[dict]:
        """Test how far the loaded model's memory reaches: hide a number in a long text and ask for it.

        Args:
            lengths: Context lengths in tokens, with commas between.
            depths: How many depths from the beginning to the end of the text, evenly spread.
            trials: How many prompts for each length and depth.
            haystack: "prose" (a novel) or "grass" (a sentence over and over).
            attention: "dca", "plain" or "both".
            sparse: True reads prompts of 32k tokens or more with block-sparse attention, an approximation; needs a GPU.

        Returns:
            The model's name, its trained length, whether long prompts are read sparsely, and for each attention the
            trials with length, depth, expected key, answer and whether it was found; while the test runs, those that
            are finished.
        """
        self.check(_is_one_of(SIDES, attention), 'attention must be "dca", "plain" or "both".')
        self.check(_is_one_of(("prose", "grass"), haystack), 'haystack must be "prose" or "grass".')
        host, settings, sides = self.context.host, self.context.settings, SIDES[attention]
        grid = run_bounds.grid_of(run_bounds.lengths_of(lengths), depths, trials, haystack, len(sides), host, settings)
        self.check_sparse(sparse, attention)
        if sparse:
            host.refuse_sparse(max(grid.lengths))
        loaded, found = host.loaded, {side: [] for side in sides}

        def work(tell: Callable[[Any], None]) -> None:
            with host.reserve(max(grid.lengths)):  # others use the model between two pieces of a prompt
                for side in sides:
                    model = host.reading(sparse).model if side == "dca" else loaded.base
                    trials = needles.run(
                        model, loaded.tokenizer, grid, name=loaded.name, dca=side == "dca",
                        progress=lambda done, total: tell(None),
                    )  # fmt: skip
                    for result in trials:
                        found[side].append(result)
                        tell(None)

        with self.session() as session:
            job = session.job = self.context.lane.submit(work, Rank.LAB, most=settings.job_seconds)
            for _ in job.events():  # also while nothing is new: a caller who has left is noticed where this yields
                yield _needle_json(loaded, sparse, found)
        yield _needle_json(loaded, sparse, found)

    def _inspect_pdf(
        self, pdf: dict, pages: str = "", password: str = "", request: gr.Request | None = None
    ) -> Iterator[dict]:
        """Say what is in a PDF before it is asked: pages, tokens, and whether it fits.

        Args:
            pdf: The PDF file, an upload or a data URL; it may be many times longer than the window of the training.
            pages: Only these pages, such as "3-7,9"; empty for all.
            password: The password of an encrypted PDF; empty for none.

        Returns:
            Name, pages in the file, pages read, tokens for the loaded model, its trained window, its reach with Dual
            Chunk Attention, the tokens that memory allows, notes (pages without text and the like), and the beginning
            of the text.
        """
        with self.session() as session:
            upload = yield from self.read(session, pdf, pages, password)
            document, host = upload.document, self.context.host
            yield {
                "name": upload.name,
                "page_count": document.page_count,
                "pages_read": [page.number for page in document.pages],
                "tokens": upload.tokens,
                "trained_window": host.loaded.trained,
                "reach_with_dca": host.loaded.context,
                "memory_allows": host.fits(),
                "notes": list(document.notes),
                "beginning": document.text[:500],
            }

    def _models(self, request: gr.Request | None = None) -> Iterator[dict]:
        """List the models that can be loaded here, and the one that is.

        Returns:
            The name of the loaded model, and for each model its base repository, license, trained length, reach with
            Dual Chunk Attention, and the bytes of its weights and of its cache for one token.
        """
        offered = [catalogue.get(name) for name in self.context.settings.choices()]
        loaded = self.context.host.loaded.name if self.context.host.ready else None
        yield {"loaded": loaded, "models": catalogue.rows([entry for entry in offered if entry is not None])}

    def check(self, holds: bool, problem: str) -> None:
        if not holds:
            raise DcaHubError(problem)

    def check_sparse(self, sparse: object, attention: str) -> None:
        self.check(isinstance(sparse, bool), "sparse must be true or false.")
        self.check(
            not sparse or "dca" in SIDES[attention],
            'Sparse reading is for Dual Chunk Attention: leave sparse out, or choose "dca" or "both".',
        )

    def session(self) -> "_Temporary":
        return _Temporary(self.context)

    def read(self, session: Session, pdf: dict, pages: str, password: str) -> Generator[dict, None, uploads.Upload]:
        """Reads the PDF; yields what is done, since a caller who has left is noticed only where something is yielded.

        Raises DcaHubError when it cannot be read.
        """
        self.check(bool(pdf), "Give a PDF file.")
        c = self.context
        upload = uploads.take(session, pdf["path"], c.sessions, c.settings)
        upload.pages, upload.password = str(pages or "").strip(), str(password or "")
        for words in uploads.read(session, [upload], c.host, c.sessions, c.settings):
            yield {"state": words}
        self.check(upload.problem is None, upload.problem or "")
        return upload


def _is_one_of(choices: Collection[str], given: object) -> bool:
    return isinstance(given, str) and given in choices


class _Temporary:
    """A session for one call."""

    def __init__(self, context: Context):
        self.sessions = context.sessions

    def __enter__(self) -> Session:
        self.held = self.sessions.make()
        return self.held

    def __exit__(self, *_) -> None:
        # Ends the work without waiting for it: this may run in the server's own loop.
        if self.held.job is not None:
            self.held.job.stop()
        self.sessions.free_later(self.held)


def _as_function(method: Callable, context: Context) -> Callable:
    """A function for programs: ends when its caller has hung up, and fails in a sentence."""

    @functools.wraps(method)
    def function(*args, **kwargs) -> Iterator[Any]:
        # Gradio hands over a request of its own, or the server's, by whichever way a tool was called.
        request = next((value for value in (*args, *kwargs.values()) if hasattr(value, "headers")), None)
        try:
            for value in method(*args, **kwargs):
                if context.callers.is_gone(request):
                    return
                # A tool's answer is shown as text, which is JSON only if it is written here.
                yield json.dumps(value, ensure_ascii=False) if caller_of(request) else value
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from None

    function.__name__ = method.__name__.lstrip("_")
    return function


def _json(label: str) -> gr.JSON:
    """JSON for programs, and text as it is where it is written as text already."""
    made = gr.JSON(label=label)
    written = made.postprocess
    made.postprocess = lambda value: value if isinstance(value, str) else written(value)
    return made


def _needle_json(loaded, sparse: bool, found: dict[str, list]) -> dict:
    return {
        "model": loaded.name,
        "trained": loaded.trained,
        "sparse": sparse,
        "results": {
            side: [
                {"length": r.length, "depth": r.depth, "trial": r.trial, "expected": r.key, "answer": r.answer,
                 "found": r.found}
                for r in results
            ]
            for side, results in found.items()
        },
    }  # fmt: skip

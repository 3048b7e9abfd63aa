"""`ask`: a question about PDFs, answered in the terminal."""

import argparse
import json
import sys
from dataclasses import asdict

from dca_hub.cli.options import add_cache, add_loading, positive, progress_bar, quiet, sampling_temperature
from dca_hub.progress import about

HELP = "ask a question about a PDF"
DESCRIPTION = """\
Reads PDFs, however much longer than the model's trained window, and answers a question about them: text by pages,
tokens against the window, the answer as it is written, and the pages it rests on. Where reading takes more than 10
seconds it says how long, as soon as the first pieces were timed, and whether --sparse is a choice.

MODEL is a name from `dca-hub models` (`demo` needs no network), a Hub id, or a folder.
"""
EPILOG = """\
examples:
  dca-hub ask demo --pdf book.pdf "What is the pass key?"
  dca-hub ask demo --pdf book.pdf --no-dca "What is the pass key?"        the plain model, to compare
  dca-hub ask smollm-360m-instruct --pdf report.pdf --pages 3-7 "What was decided?"
"""


_LONG = 10  # seconds of reading, above which they are said beforehand
_PDF = "a PDF, .txt or .md file, or its http(s) address; may be given several times"


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "ask", help=HELP, description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument(
        "--pdf",
        action="append",
        required=True,
        metavar="FILE",
        help=_PDF,
    )
    parser.add_argument("--pages", help="only these pages of each PDF, such as 3-7,9")
    parser.add_argument("--password", help="of an encrypted PDF")
    parser.add_argument("--no-dca", action="store_true", help="the plain base model, for comparison")
    parser.add_argument("--max-context", type=positive, metavar="N", help="most tokens for document and answer")
    parser.add_argument("--max-new-tokens", type=positive, default=256, metavar="N", help="length of the answer")
    parser.add_argument("--temperature", type=sampling_temperature, default=0.0, help="0, the default, is greedy")
    parser.add_argument("--json", action="store_true", help="print one JSON object in the end, and nothing else")
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="ask MODEL on an OpenAI-compatible server (dca-hub serve); none is loaded here",
    )
    add_loading(parser)
    add_cache(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    documents = _read(args)
    from dca_hub.conversation import Sampling

    quiet()
    say = (lambda *words: None) if args.json else (lambda *words: print(*words, file=sys.stderr))
    conversation = _conversation(args, documents)
    if note := getattr(conversation.loaded, "note", None):
        say(f"note: {note}")
    say(_window(conversation))
    say(f"runs on {conversation.loaded.runs_on}")
    answered = _answer(conversation, args, Sampling(args.max_new_tokens, args.temperature), say)
    _report(answered, args, say)
    return 0


def _conversation(args: argparse.Namespace, documents: list):
    options = {"dca": not args.no_dca, "max_context": args.max_context}
    if args.endpoint:
        from dca_hub.serving.client import connect, converse

        return converse(connect(args.model, args.endpoint, args.revision), documents, **options)
    from dca_hub.conversation import Conversation
    from dca_hub.loading import load

    loaded = load(
        args.model,
        dca=not args.no_dca,
        device=args.device,
        dtype=args.dtype,
        quantization=args.quantization,
        context=args.max_context,
        revision=args.revision,
        sparse=args.sparse,
        cache_bits=args.cache_bits,
        offload_cache=args.offload_cache,
        gguf_file=args.gguf_file,
    )
    return Conversation(loaded, documents, **options)


def _read(args: argparse.Namespace) -> list:
    from dca_hub.cli.text import read

    documents = []
    for path in args.pdf:
        documents.append(read(path, args.pages, args.password))
        if not args.json:
            document = documents[-1]
            print(f"{document.name}: {len(document.pages)} of {document.page_count} pages", file=sys.stderr)
            for note in document.notes:
                print(f"note: {note}", file=sys.stderr)
    return documents


def _window(conversation) -> str:
    """The document against the trained window and against what may be given."""
    loaded, tokens = conversation.loaded, conversation.document_tokens
    times = tokens / loaded.trained
    words = f"{tokens:,} tokens: {times:.1f} times the {loaded.trained:,} that {loaded.name} was trained at"
    if not conversation.dca:
        past = ", far past what it can read" if tokens > loaded.trained else ""
        return f"{words}{past}; DCA is off."
    return f"{words}, {tokens / conversation.limit:.0%} of the {conversation.limit:,}-token limit."


def _answer(conversation, args: argparse.Namespace, sampling, say):
    from dca_hub.conversation import Answered, Answering, Reading

    update, close = progress_bar("reading", "token")
    answered, is_said = None, False
    try:
        for event in conversation.ask(args.question, sampling):
            match event:
                case Reading(done, total, spent, left):
                    if left is not None and not is_said:
                        is_said = True
                        if spent + left > _LONG:
                            close()
                            for words in _how_long(conversation, total, spent + left):
                                say(words)
                            update, close = progress_bar("reading", "token")
                    update(done, total, left)
                case Answering(text):
                    close()
                    if not args.json:
                        print(text, end="", flush=True)
                case Answered():
                    answered = event
    finally:
        close()
    return answered


def _how_long(conversation, tokens: int, seconds: float) -> list[str]:
    """How long reading will take, after the first pieces, and whether there is a quicker way."""
    loaded = conversation.loaded
    words = f"reading {tokens:,} tokens takes about {about(seconds)}"
    if not conversation.dca:
        return [words]
    if loaded.sparse is not None:
        is_open = tokens >= loaded.sparse.least_keys and not loaded.pace.has_timed_sparse
        return [words + ", or less where sparse attention turns out to be quicker" * is_open]
    if loaded.why_not_sparse(tokens) is None:
        choice = "--sparse is a choice here: an approximation, from what holds most attention, which can be quicker"
        return [words, choice]
    return [words]


def _report(answered, args: argparse.Namespace, say) -> None:
    if args.json:
        print(json.dumps(_values(answered, args), indent=2, ensure_ascii=False))
        return
    print(flush=True)
    if not any(citation.supports for citation in answered.citations):
        say("No page supports this answer.")
    for citation in answered.citations:
        say(_cited(citation))
    stats = answered.stats
    say(
        f"read {stats.read_tokens:,} tokens at {stats.read_tokens_per_second:,.0f} per second, first word after "
        f"{stats.first_token_seconds:.1f} s, then {stats.answer_tokens_per_second:.1f} tokens per second"
    )


def _cited(citation) -> str:
    """`verbatim: page 3 of a.pdf: “...”`, and what the page says where a number differs."""
    differences = "".join(f", but {d} where the answer says {d.answer}" for d in citation.differences if d.page)
    differences += "".join(f", but {d}" for d in citation.differences if not d.page)
    where = f"page {citation.page} of {citation.document}"
    return f"{citation.grade.value}: {where}{differences}: “{_short(citation.quote)}”"


def _values(answered, args: argparse.Namespace) -> dict:
    return {
        "model": args.model,
        "dca": not args.no_dca,
        "question": args.question,
        "answer": answered.text,
        "citations": [asdict(citation) for citation in answered.citations],
        "stats": {
            **asdict(answered.stats),
            "read_tokens_per_second": answered.stats.read_tokens_per_second,
            "answer_tokens_per_second": answered.stats.answer_tokens_per_second,
        },
    }


def _short(text: str, most: int = 100) -> str:
    words = " ".join(text.split())
    return words if len(words) <= most else f"{words[: most - 1].rstrip()}…"

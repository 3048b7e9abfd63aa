"""`text`: what the model will read of a document."""

import argparse
import contextlib
import json
import sys

from dca_hub.cli.options import progress_bar

HELP = "print what the model will read of a document"
DESCRIPTION = """\
Prints the text of a document as the model will read it: a PDF, a text file (.txt, .md), or the http(s) address of one.
Notes on what is missing go to standard error.
"""
EPILOG = """\
examples:
  dca-hub text report.pdf                   the whole text, each page under its mark
  dca-hub text report.pdf --pages 3-7,9
  dca-hub text report.pdf --json            pages, which library read each, and notes
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "text", help=HELP, description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", metavar="FILE", help="a PDF or text file, or an http(s) address")
    parser.add_argument("--pages", metavar="RANGE", help="only these pages, such as 3-7,9")
    parser.add_argument("--password", help="of an encrypted PDF")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    document = read(args.file, args.pages, args.password)
    if args.json:
        print(json.dumps(_values(document), indent=2, ensure_ascii=False))
        return 0
    for page in document.pages:
        reader = f" ({page.reader})" if page.reader else ""
        print(f"[page {page.number}]{reader}\n{page.text}\n")
    for note in document.notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def read(path: str, pages: str | None = None, password: str | None = None):
    """The document at a path or, on the command line only, at an http(s) address; with a progress bar."""
    from dca_hub.documents import read_document
    from dca_hub.documents.web import downloaded, is_url

    update, close = progress_bar("pages", "page")
    with downloaded(path) if is_url(path) else contextlib.nullcontext(path) as file:
        try:
            return read_document(file, pages=pages, password=password, progress=update)
        finally:
            close()


def _values(document) -> dict:
    pages = [{"number": page.number, "reader": page.reader, "text": page.text} for page in document.pages]
    return {"name": document.name, "page_count": document.page_count, "pages": pages, "notes": list(document.notes)}

"""The example document: three chapters of a novel, with a pass key hidden half way.

`python -m dca_hub.documents.example FILE.pdf` writes it. The text is Anthony Trollope's "Ayala's Angel" (1881),
chapters I to III, in the public domain; its one foreign paragraph is `PASS_KEY_SENTENCE`.
"""

import gzip
import os
import sys
from pathlib import Path

from dca_hub.documents.writer import book

PASS_KEY = "71432"
PASS_KEY_SENTENCE = f"The pass key is {PASS_KEY}. Remember it. {PASS_KEY} is the pass key."
_TEXT = Path(__file__).with_name("example.txt.gz")
_TITLE_PAGE = (
    ("Ayala's Angel", 30),
    ("Anthony Trollope", 15),
    ("1881", 12),
    ("", 60),
    ("Chapters I to III, in the public domain.", 10.5),
    # The words "pass key" stay off this page: a model that looks for them must find the one place that matters.
    ("One paragraph is not by Trollope: it holds a number to be found.", 10.5),
)
_INFORMATION = b"<< /Title (Ayala's Angel, chapters I to III) /Author (Anthony Trollope) >>"


def example_text() -> list[str]:
    """The paragraphs; one that begins with "# " is a chapter's heading."""
    return gzip.decompress(_TEXT.read_bytes()).decode("utf-8").strip().split("\n\n")


def write_example(path: str | os.PathLike[str]) -> Path:
    """Writes the example PDF to `path`, the same bytes every time, and returns the path."""
    path = Path(path)
    path.write_bytes(book(_TITLE_PAGE, example_text(), _INFORMATION))
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m dca_hub.documents.example FILE.pdf")
    print(write_example(sys.argv[1]))

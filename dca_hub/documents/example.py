"""The example document: three chapters of a novel, with a pass key hidden half way.

`python -m dca_hub.documents.example FILE.pdf` writes it. The text is Anthony Trollope's "Ayala's Angel" (1881),
chapters I to III, in the public domain; its one foreign paragraph is `PASS_KEY_SENTENCE`. example.pdf is made from
example.txt.gz by tests/support/example_pdf.py, and a test holds the two together.
"""

import gzip
import os
import shutil
import sys
from pathlib import Path

PASS_KEY = "71432"
PASS_KEY_SENTENCE = f"The pass key is {PASS_KEY}. Remember it. {PASS_KEY} is the pass key."
_PDF, _TEXT = (Path(__file__).with_name(name) for name in ("example.pdf", "example.txt.gz"))


def example_text() -> list[str]:
    """The paragraphs; one that begins with "# " is a chapter's heading."""
    return gzip.decompress(_TEXT.read_bytes()).decode("utf-8").strip().split("\n\n")


def write_example(path: str | os.PathLike[str]) -> Path:
    """Writes the example PDF to `path` and returns the path."""
    return Path(shutil.copyfile(_PDF, path))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m dca_hub.documents.example FILE.pdf")
    print(write_example(sys.argv[1]))

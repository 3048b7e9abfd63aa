"""Makes the example document's PDF from its text: `python -m support.example_pdf`, from tests."""

from pathlib import Path

from dca_hub.documents import example
from support.pdf_writer import book

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


def made() -> bytes:
    return book(_TITLE_PAGE, example.example_text(), _INFORMATION)


if __name__ == "__main__":
    Path(example.__file__).with_name("example.pdf").write_bytes(made())

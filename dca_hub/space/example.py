"""The example document: made and read once, for all visitors."""

import threading
from pathlib import Path

from dca_hub.documents import Document, Limits, read_pdf
from dca_hub.documents.example import write_example

NAME = "ayalas-angel.pdf"


class Example:
    """The file, in a folder of the program, and its pages."""

    def __init__(self, folder: Path, limits: Limits):
        self._folder, self._limits = folder, limits
        self._lock = threading.Lock()
        self._document: Document | None = None

    def path(self) -> Path:
        """The file; made when it is first asked for."""
        with self._lock:
            path = self._folder / NAME
            return path if path.is_file() else write_example(path)

    def document(self) -> Document:
        path = self.path()
        with self._lock:
            if self._document is None:
                self._document = read_pdf(path, limits=self._limits)
            return self._document

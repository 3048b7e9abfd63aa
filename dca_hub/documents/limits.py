"""How much a document may cost before it is refused."""

from dataclasses import dataclass

MIB = 1 << 20
# Python with pypdf, pdfium and Pillow loaded takes about 150 MiB of address space before it has seen a file.
LEAST_MEMORY = 256 * MIB


@dataclass(frozen=True)
class Limits:
    """Bounds on one call of `read_pdf` or `render_page`.

    memory_bytes: address space of the worker process, in bytes (at least 256 MiB). Enforced by the operating system
        where it can (Linux); macOS and Windows enforce the time alone.
    seconds: wall-clock time of the call; the same figure bounds the worker's CPU time.
    pages: pages that one call may read. A longer file is fine when a page range picks fewer.
    characters: characters of cleaned text in total; past it the document is refused.
    page_characters: characters of one page; past it the page is cut and the document says so.
    file_bytes: size of the file, in bytes.
    """

    memory_bytes: int = 1024 * MIB
    seconds: float = 120.0
    pages: int = 1000
    characters: int = 5_000_000
    page_characters: int = 200_000
    file_bytes: int = 100_000_000

    def __post_init__(self) -> None:
        if self.memory_bytes < LEAST_MEMORY:
            raise ValueError(f"memory_bytes must be at least {LEAST_MEMORY}, got {self.memory_bytes}")
        for name in ("seconds", "pages", "characters", "page_characters", "file_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


DEFAULT_LIMITS = Limits()

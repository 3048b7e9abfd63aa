"""How often a true sentence of a document is cited with its own page.

`python benchmarks/citations.py FILE... [--seed 7] [--poppler] [--misses]`; a folder stands for the PDFs in it. From
each document random sentences of eight words or more are drawn, most of them letters, from the product's own reading
or, with --poppler, from that of poppler's `pdftotext` (Debian poppler-utils). Each is cited as if a model had answered
with it. It counts where the first citation supports it and names a page that holds the sentence.
"""

import argparse
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from dca_hub.documents import Document, DocumentError, cite, read_document
from dca_hub.documents.sentences import sentences
from dca_hub.documents.text import clean, join_hyphens, unwrap
from dca_hub.documents.words import words_of

_FEWEST_WORDS, _MOST_WORDS = 8, 60
_LETTERS = 0.7  # of a sentence's characters: rows of numbers and code are not sentences


def by_poppler(path: Path) -> list[str]:
    """Each page's text as `pdftotext` reads it."""
    out = subprocess.run(["pdftotext", path, "-"], capture_output=True, check=True, timeout=120).stdout
    pages = out.decode("utf-8", "replace").split("\f")
    return [unwrap(text) for text in join_hyphens([clean(page) for page in pages])]


def sentences_of(pages: list[str]) -> Iterator[str]:
    for text in pages:
        for start, stop in sentences(text):
            sentence = text[start:stop]
            letters = sum(c.isalpha() or c.isspace() for c in sentence)
            if _FEWEST_WORDS <= len(words_of(sentence)) <= _MOST_WORDS and letters >= _LETTERS * len(sentence):
                yield sentence


def in_words(text: str) -> str:
    return f" {' '.join(words_of(text))} "


def measure(document: Document, drawn: list[str], origin: list[str]) -> tuple[list[str], float]:
    """The sentences that are not cited with their page, and the seconds that one took on average."""
    pages = [in_words(text) for text in origin]
    missed, seconds = [], 0.0
    for sentence in drawn:
        start = time.perf_counter()
        cited = cite(sentence, document)
        seconds += time.perf_counter() - start
        own = {number for number, page in enumerate(pages, 1) if in_words(sentence) in page}
        if not (cited and cited[0].supports and cited[0].page in own):
            said = f"page {cited[0].page}, {cited[0].grade.value}" if cited else "no page"
            missed.append(f"pages {sorted(own)}, cited: {said}: {sentence}")
    return missed, seconds / max(1, len(drawn))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--sentences", type=int, default=25, help="of each document")
    parser.add_argument("--poppler", action="store_true", help="sentences as pdftotext reads them")
    parser.add_argument("--misses", action="store_true", help="print the sentences that are not cited with their page")
    args = parser.parse_args()
    if args.poppler and not shutil.which("pdftotext"):
        sys.exit("pdftotext is not installed: apt-get install poppler-utils")
    print("| document | pages | sentences | cited with their page | seconds each |\n|---|--:|--:|--:|--:|")
    for path in [found for file in args.files for found in (sorted(file.rglob("*.pdf")) if file.is_dir() else [file])]:
        try:
            document = read_document(path)
        except DocumentError as error:
            print(error, file=sys.stderr)
            continue
        origin = by_poppler(path)[: document.page_count] if args.poppler else [page.text for page in document.pages]
        every = sorted(set(sentences_of(origin)))
        drawn = random.Random(f"{args.seed} {path.name}").sample(every, min(args.sentences, len(every)))
        missed, seconds = measure(document, drawn, origin)
        right = len(drawn) - len(missed)
        print(f"| {path.name} | {len(document.pages)} | {len(drawn)} | {right} | {seconds:.2f} |", flush=True)
        if args.misses:
            print("".join(f"  {line}\n" for line in missed), end="", file=sys.stderr)


if __name__ == "__main__":
    main()

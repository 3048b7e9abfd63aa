"""How much of a PDF's text is found, against poppler's pdftotext: pypdf alone, pdfium alone, and what is read here.

`python benchmarks/pdf_text.py FOLDER [--files]`; pdftotext is in Debian's poppler-utils. Words and bigrams are those of
poppler's text that the reading has too, each as often as it stands there. Files with fewer than ten words, and those
that poppler cannot open, are left out of the means. Times are of the reading alone, ours with its worker's start.
"""

import argparse
import logging
import re
import shutil
import subprocess
import sys
import time
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pypdf
import pypdfium2

from dca_hub.documents import DocumentError, read_pdf
from dca_hub.documents.text import clean, join_hyphens

_FEWEST_WORDS = 10
_LOW, _HIGH = 0.6, 0.9
_BIDIRECTIONAL = re.compile("[\u202a-\u202e]")  # poppler puts these marks around right-to-left text


def with_pypdf(path: Path) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(path).pages]


def with_pdfium(path: Path) -> list[str]:
    return [page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(path)]


def as_here(path: Path) -> list[str]:
    return [page.text for page in read_pdf(path).pages]


READERS: dict[str, Callable[[Path], list[str]]] = {"pypdf": with_pypdf, "pdfium": with_pdfium, "ours": as_here}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", _BIDIRECTIONAL.sub("", text)).lower())


def found(reference: Sequence, reading: Sequence) -> float:
    """The share of `reference` that `reading` has, each as often."""
    common = Counter(reference) & Counter(reading)
    return common.total() / max(1, len(reference))


def bigrams(of: list[str]) -> list[tuple[str, str]]:
    return list(pairwise(of))


def measure(path: Path) -> dict[str, tuple[float, float, float]] | None:
    """For each reader (words found, bigrams found, seconds); None for a file without a text to compare with."""
    out = subprocess.run(["pdftotext", path, "-"], capture_output=True, timeout=120).stdout
    reference = words(out.decode("utf-8", "replace"))
    if len(reference) < _FEWEST_WORDS:
        return None
    results = {}
    for name, read in READERS.items():
        start = time.perf_counter()
        try:
            pages = read(path)
        except (DocumentError, Exception) as error:  # a library raises what it likes; a file that is lost scores 0
            print(f"  {path.name}: {name}: {type(error).__name__}: {str(error)[:90]}", file=sys.stderr)
            pages = []
        seconds = time.perf_counter() - start
        read_words = words("\n".join(join_hyphens([clean(page) for page in pages])))
        results[name] = found(reference, read_words), found(bigrams(reference), bigrams(read_words)), seconds
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", action="store_true", help="a line for each file too")
    args = parser.parse_args()
    if not shutil.which("pdftotext"):
        sys.exit("pdftotext is not installed: apt-get install poppler-utils")
    logging.disable()
    warnings.simplefilter("ignore")
    measured = {}
    for path in sorted(args.folder.rglob("*.pdf")):
        if (result := measure(path)) is not None:
            measured[path.name] = result
            if args.files:
                cells = "  ".join(f"{name} {w:.3f} {b:.3f} {s:.2f} s" for name, (w, b, s) in result.items())
                print(f"{path.name[:44]:44}  {cells}", flush=True)
    report(measured)


def report(measured: dict[str, dict[str, tuple[float, float, float]]]) -> None:
    if not measured:
        sys.exit("There is no PDF with ten words or more in that folder.")
    print(f"{len(measured)} files with {_FEWEST_WORDS} words or more\n")
    print(f"| reader | words found | bigrams found | files below {_LOW} | seconds |\n|---|--:|--:|--:|--:|")
    for name in READERS:
        rows = [result[name] for result in measured.values()]
        mean_words, mean_bigrams = (sum(row[i] for row in rows) / len(rows) for i in (0, 1))
        low = sum(row[0] < _LOW for row in rows)
        print(f"| {name} | {mean_words:.4f} | {mean_bigrams:.4f} | {low} | {sum(row[2] for row in rows):.1f} |")
    lost = [name for name, r in measured.items() if r["ours"][0] < _LOW and r["pdfium"][0] > _HIGH]
    print(f"\nbelow {_LOW} here where pdfium alone is above {_HIGH}: {', '.join(lost) or 'none'}")


if __name__ == "__main__":
    main()

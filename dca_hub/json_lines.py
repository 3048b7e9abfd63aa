r"""JSON lines, as files and streams hold them: a line ends at "\n" and nowhere else.

`str.splitlines` also splits at U+2028, U+2029, U+0085 and a few more, all of which JSON leaves as they are within a
string, so that a file could not be read by the program that wrote it.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dca_hub.errors import DcaHubError


def split(text: str) -> list[str]:
    r"""The lines of a text, without their ends ("\r\n" is one too)."""
    return [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]


def lines_of(chunks: Iterable[str]) -> Iterator[str]:
    """The lines of a stream of text that arrives in pieces."""
    held = ""
    for chunk in chunks:
        *whole, held = (held + chunk).split("\n")
        yield from (line.removesuffix("\r") for line in whole)
    if held:
        yield held.removesuffix("\r")


def read_text(path: Path, what: str) -> str:
    """A UTF-8 file, with or without a byte order mark. Raises DcaHubError, which calls the file `what`."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DcaHubError(f"The {what} {path.name!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DcaHubError(f"The {what} {path.name!r} is not UTF-8 text ({error}): save it as UTF-8.") from None


def parse(text: str, name: str, fix: str, *, torn: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """The objects of JSON lines, each with where it stands ("NAME, line 3"); empty lines are left out.

    Args:
        fix: what to do about a line that is not an object, as the end of a sentence.
        torn: leave out a last line that is not whole, which a process that was killed has left.

    Raises DcaHubError naming the first other line that is not a JSON object.
    """
    lines, found = split(text), []
    last = max((number for number, line in enumerate(lines, 1) if line.strip()), default=0)
    for number, line in enumerate(lines, 1):
        where = f"{name}, line {number}"
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            if torn and number == last:
                break
            raise DcaHubError(f"{where} is not JSON: {fix}.") from None
        if not isinstance(value, dict):
            raise DcaHubError(f"{where} is not a JSON object: {fix}.")
        found.append((where, value))
    return found


def line(value: dict[str, Any]) -> str:
    """An object as a line of a file."""
    return json.dumps(value, ensure_ascii=False) + "\n"

"""Where a passage stands in a page's characters, whatever became of its spaces, hyphens and line ends."""

import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher

_LONGEST = 4000
_FEWEST_WORDS = 4


def locate(characters: Sequence[str], passage: str) -> range | None:
    """The indices of `characters` from the passage's first to its last, or None.

    First compared by letters and digits alone, in small letters and compatible forms. If that fails (another reading
    order, a word that differs), the longest run of words counts, if it has four words and a third of the passage.
    """
    letters, places = _letters(characters)
    wanted, _ = _letters(passage[:_LONGEST])
    if not wanted:
        return None
    start = letters.find(wanted)
    if start >= 0:
        return range(places[start], places[start + len(wanted) - 1] + 1)
    return _longest_run(characters, passage[:_LONGEST])


def _letters(characters: Sequence[str]) -> tuple[str, list[int]]:
    """The letters and digits, and for each the index it comes from (a ligature gives several for one index)."""
    kept: list[str] = []
    places: list[int] = []
    for index, character in enumerate(characters):
        for letter in unicodedata.normalize("NFKC", character).lower():
            if letter.isalnum():
                kept.append(letter)
                places.append(index)
    return "".join(kept), places


def _words(characters: Sequence[str]) -> list[tuple[str, int, int]]:
    """(word in small letters, index of its first character, index behind its last)."""
    words: list[tuple[str, int, int]] = []
    start = None
    for index, character in enumerate([*characters, " "]):
        if character.isalnum():
            start = index if start is None else start
        elif start is not None:
            words.append((unicodedata.normalize("NFKC", "".join(characters[start:index])).lower(), start, index))
            start = None
    return words


def _longest_run(characters: Sequence[str], passage: str) -> range | None:
    page = _words(characters)
    wanted = [word for word, _, _ in _words(passage)]
    matcher = SequenceMatcher(None, wanted, [word for word, _, _ in page], autojunk=False)
    run = matcher.find_longest_match()
    if run.size < max(_FEWEST_WORDS, len(wanted) / 3):
        return None
    return range(page[run.b][1], page[run.b + run.size - 1][2])

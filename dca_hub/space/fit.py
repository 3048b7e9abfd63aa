"""Which pages of a document to read where not all of it fits."""

import math
from collections.abc import Sequence

from dca_hub.documents import Document, Page
from dca_hub.documents.claims import keys_of
from dca_hub.documents.words import holders
from dca_hub.space.host import Host
from dca_hub.space.sessions import Session, Upload

_MARK = 8  # tokens of a page's mark, at most
_ROOM = 512 + 256  # tokens of a question, the format around it, and an answer


def longest(session: Session) -> Upload | None:
    """The document that is cut, where they do not fit."""
    return max(session.readable, key=lambda upload: upload.tokens, default=None)


def room(session: Session, host: Host) -> int:
    """Tokens that are left for the longest document beside the others, a question and its answer."""
    upload = longest(session)
    others = session.document_tokens - (upload.tokens if upload else 0)
    return max(0, host.limit(session.cache_bytes()) - others - _ROOM)


def first_pages(document: Document, tokens: int, host: Host) -> list[int]:
    """The pages from the first one on that fit into so many tokens."""
    return _filled([page for page in document.pages if page.text], tokens, host)


def best_pages(document: Document, question: str, tokens: int, host: Host) -> list[int]:
    """The pages that share most with a question, rare words counting most, as far as they fit; in their order."""
    pages = [(page, folded) for page, folded in zip(document.pages, document.folded, strict=True) if page.text]
    score = dict.fromkeys(range(len(pages)), 0.0)
    for key in keys_of(question):
        found = holders(key, [folded for _, folded in pages])
        for index in found:
            score[index] += math.log(1 + len(pages) / len(found))
    ranked = sorted(score, key=lambda index: (-score[index], index))
    return sorted(_filled([pages[index][0] for index in ranked], tokens, host))


def written(pages: Sequence[int]) -> str:
    """Pages as a range: 3-7,9."""
    parts: list[list[int]] = []
    for number in sorted(pages):
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _filled(pages: Sequence[Page], tokens: int, host: Host) -> list[int]:
    chosen, taken = [], 0
    for page in pages:
        taken += host.count(page.text) + _MARK
        if taken > tokens:
            break
        chosen.append(page.number)
    return chosen

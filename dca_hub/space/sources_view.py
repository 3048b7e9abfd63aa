"""An answer's sources: numbers in the text at the sentences that they support, and what each page says below it."""

from collections.abc import Sequence

from markupsafe import Markup

from dca_hub.documents import Citation
from dca_hub.space.markup import tag

# How a citation is graded: a sign that says it without a colour, and words for its title.
GRADES = {
    "verbatim": ("✓", "word for word"),
    "likely": ("≈", "in other words"),
    "not found": ("✗", "not what the page says"),
}


def marks(citations: Sequence[Citation], turn: int, side: str, length: int) -> list[tuple[int, Markup]]:
    """A number for each sentence that a page supports or contradicts, where the sentence ends."""
    found = []
    for index, citation in enumerate(citations):
        spans = [stop for _, stop in citation.claims if 0 < stop <= length]
        found += [(stop, _mark(citation, index, turn, side)) for stop in spans]
    return sorted(found, key=lambda item: item[0])


def listed(citations: Sequence[Citation], turn: int, side: str, named: bool) -> Markup | str:
    """The sources below an answer, with what a page says where a number differs; that there is none, if there is."""
    if not citations:
        return tag("div", "No page supports this answer.", class_="dh-label")
    supported = any(citation.supports for citation in citations)
    label = tag("span", "Sources" if supported else "No page supports this answer", class_="dh-label")
    chips = [_chip(citation, index, turn, side, named) for index, citation in enumerate(citations)]
    return tag("div", label, *chips, class_="dh-chips")


def _chip(citation: Citation, index: int, turn: int, side: str, named: bool) -> Markup:
    where = f"{citation.document}, p. {citation.page}" if named else f"p. {citation.page}"
    said = f": {differences(citation)}" if citation.differences else ""
    sign, words = GRADES[citation.grade]
    return tag(
        "button", tag("span", f"[{index + 1}] ", class_="dh-number"), where, said, " ",
        tag("span", sign, class_="dh-grade", aria_hidden="true"), tag("span", f" {words}", class_="dh-hidden"),
        type="button", class_="dh-chip", data_grade=citation.grade.value, data_act="cite",
        data_value=f"{turn}/{side}/{index}", title=_title(citation),
    )  # fmt: skip


def _mark(citation: Citation, index: int, turn: int, side: str) -> Markup:
    label = f"Source {index + 1}, page {citation.page}: {GRADES[citation.grade][1]}"
    return tag(
        "button", f"[{index + 1}]", type="button", class_="dh-cite", data_grade=citation.grade.value, data_act="cite",
        data_value=f"{turn}/{side}/{index}", title=_title(citation), aria_label=label,
    )  # fmt: skip


def differences(citation: Citation) -> str:
    """What the page says where the answer has another number."""
    return "; ".join(map(str, citation.differences))


def _title(citation: Citation) -> str:
    where = f"Page {citation.page} of {citation.document}, {GRADES[citation.grade][1]}"
    but = f" ({differences(citation)})" if citation.differences else ""
    return f"{where}{but}: “{citation.quote[:300]}”"

"""An answer's sources: numbers in the text at the sentences that they support, and what each page says below it."""

from collections.abc import Sequence

from markupsafe import Markup

from dca_hub.conversation import Look
from dca_hub.documents import Citation, Grade
from dca_hub.space.markup import tag

_LONGEST_NAME = 40
# How a citation is graded: a sign that says it without a colour, and words for its title.
GRADES = {
    Grade.VERBATIM: ("✓", "word for word"),
    Grade.LIKELY: ("≈", "in other words"),
    Grade.NOT_FOUND: ("✗", "not what the page says"),
}


def marks(citations: Sequence[Citation], turn: int, side: str, answer: str) -> list[tuple[int, Markup]]:
    """A number where each sentence ends that a page supports, and at each number that a page has otherwise."""
    found = []
    for index, citation in enumerate(citations):
        key = f"{turn}/{side}/{index}"
        supported = sorted({stop for _, stop in citation.claims if 0 < stop <= len(answer)})
        found += [(stop, _mark(citation, index, key, citation.grade)) for stop in supported]
        for difference in citation.differences:
            if (at := answer.find(difference.answer)) >= 0:
                stop = at + len(difference.answer)
                found.append((stop, _mark(citation, index, key, Grade.NOT_FOUND, str(difference))))
    return sorted(found, key=lambda item: item[0])


def listed(
    citations: Sequence[Citation], turn: int, side: str, names: Sequence[str], looks: Sequence[Look] = ()
) -> Markup:
    """The sources below an answer, with what a page says where a number differs; that there is none, if there is; and
    the page that the model looked at most. names: of the documents, where there are several."""
    supported = any(citation.supports for citation in citations)
    label = tag("span", "Sources" if supported else "No page supports this answer", class_="dh-label")
    chips = [_chip(citation, index, turn, side, bool(names)) for index, citation in enumerate(citations)]
    if looks:
        chips.append(_most_looked(max(looks, key=lambda look: look.share), turn, side, names))
    return tag("div", label, *chips, class_="dh-chips")


def _most_looked(look: Look, turn: int, side: str, names: Sequence[str]) -> Markup:
    """A page that the model looked at is no source: the two are named apart."""
    where = f"{_short(names[look.source])}, p. {look.page}" if look.source < len(names) else f"p. {look.page}"
    title = "By the model's own attention while it wrote. It may look at a page and make nothing of it."
    return tag(
        "button", f"Looked most at {where}", type="button", class_="dh-quiet dh-looked-most", data_act="look",
        data_value=f"{turn}/{side}/", title=title,
    )  # fmt: skip


def _chip(citation: Citation, index: int, turn: int, side: str, named: bool) -> Markup:
    where = f"{_short(citation.document)}, p. {citation.page}" if named else f"p. {citation.page}"
    said = f": {differences(citation)}" if citation.differences else ""
    sign, words = GRADES[_worst(citation)]
    return tag(
        "button", tag("span", f"[{index + 1}] ", class_="dh-number"), where, said, " ",
        tag("span", sign, class_="dh-grade", aria_hidden="true"), tag("span", f" {words}", class_="dh-hidden"),
        type="button", class_="dh-chip", data_grade=_worst(citation).value, data_act="cite",
        data_value=f"{turn}/{side}/{index}", title=_title(citation),
    )  # fmt: skip


def _short(name: str) -> str:
    """A name that fits a button."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 6]}…{name[-5:]}"


def _mark(citation: Citation, index: int, key: str, grade: Grade, but: str = "") -> Markup:
    label = f"Source {index + 1}, page {citation.page}: {but or GRADES[grade][1]}"
    return tag(
        "button", f"[{index + 1}]", type="button", class_="dh-cite", data_grade=grade.value, data_act="cite",
        data_value=key, title=_title(citation), aria_label=label,
    )  # fmt: skip


def _worst(citation: Citation) -> Grade:
    return Grade.NOT_FOUND if citation.differences else citation.grade


def differences(citation: Citation) -> str:
    """What the page says where the answer has another number."""
    return "; ".join(map(str, citation.differences))


def _title(citation: Citation) -> str:
    where = f"Page {citation.page} of {citation.document}, {GRADES[_worst(citation)][1]}"
    but = f" ({differences(citation)})" if citation.differences else ""
    return f"{where}{but}: “{citation.quote[:300]}”"

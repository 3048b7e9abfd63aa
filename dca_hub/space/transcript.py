"""The conversation as HTML: questions, answers, progress, citations, timings. All words of others are escaped."""

from dca_hub.documents import Citation
from dca_hub.space.markup import bar, notice, seconds, tag, text
from dca_hub.space.turns import NAMES, Answer, Side, Turn


def past(turns: list[Turn]) -> str:
    """The finished turns."""
    return "".join(_turn(number, turn) for number, turn in enumerate(turns))


def live(number: int, turn: Turn) -> str:
    """The turn that is being answered."""
    return _turn(number, turn, live=True)


def _turn(number: int, turn: Turn, live: bool = False) -> str:
    question = tag("div", tag("span", "You: ", class_="dh-hidden"), text(turn.question), class_="dh-question")
    answers = [_answer(number, side, answer, turn) for side, answer in turn.answers.items()]
    columns = tag("div", *answers, class_=f"dh-answers dh-{'two' if len(answers) > 1 else 'one'}")
    return tag("article", question, columns, class_="dh-turn", aria_busy="true" if live else None)


def _answer(number: int, side: Side, answer: Answer, turn: Turn) -> str:
    parts = []
    if len(turn.answers) > 1 or side == "plain":
        parts.append(tag("div", text(NAMES[side]), class_=f"dh-side dh-side-{side}"))
    parts.append(_body(answer))
    parts.append(_foot(number, side, answer, named=turn.documents > 1))
    return tag("section", *parts, class_="dh-answer", data_state=answer.state, aria_label=NAMES[side])


def _body(answer: Answer) -> str:
    if answer.state == "waiting":
        return tag("div", tag("span", class_="dh-spinner"), "Waiting for the model", class_="dh-progress")
    if answer.state == "reading":
        return _reading(answer)
    if answer.state == "failed":
        said = tag("div", text(answer.text), class_="dh-text") if answer.text else ""
        return said + notice(answer.problem, "error")
    caret = tag("span", class_="dh-caret") if answer.state == "answering" else ""
    said = tag("div", text(answer.text.strip()), caret, class_="dh-text") if answer.text.strip() or caret else ""
    if answer.state == "done" and not answer.text:
        said = tag("div", "The model gave no answer.", class_="dh-text dh-none")
    if answer.state == "stopped":
        said += tag("div", text(_where_stopped(answer)), class_="dh-stopped")
    return said


def _where_stopped(answer: Answer) -> str:
    if answer.text:
        return "Stopped."
    if answer.reading and answer.reading.done < answer.reading.total:
        return f"Stopped after {answer.reading.done:,} of {answer.reading.total:,} tokens; what was read is kept."
    return "Stopped before the answer."


def _reading(answer: Answer) -> str:
    reading = answer.reading
    words = f"Reading: {reading.done:,} of {reading.total:,} tokens"
    left = f"{reading.tokens_per_second:,.0f} tokens/s · {seconds(reading.seconds_left)} left"
    return bar(words, left, reading.done / max(1, reading.total), "dh-reading")


def _foot(number: int, side: Side, answer: Answer, named: bool) -> str:
    chips = [
        tag(
            "button",
            text(_label(citation, named)),
            type="button",
            class_="dh-chip",
            data_act="cite",
            data_value=f"{number}/{side}/{index}",
            title=f"Open page {citation.page} of {citation.document}",
        )
        for index, citation in enumerate(answer.citations)
    ]
    parts = []
    supported = any(citation.supports for citation in answer.citations)
    if chips:
        label = "Rests on" if supported else "Not supported"
        parts.append(tag("div", tag("span", label, class_="dh-label"), *chips, class_="dh-chips"))
    if answer.state == "done" and not chips and answer.text:
        parts.append(tag("div", "No page supports this answer.", class_="dh-label"))
    if answer.stats:
        parts.append(_timings(answer))
    return tag("footer", *parts) if parts else ""


def _label(citation: Citation, named: bool) -> str:
    """Which page, and what it says where the answer has another number."""
    where = f"{citation.document}, p. {citation.page}" if named else f"p. {citation.page}"
    return ": ".join([where, *map(str, citation.differences)])


def _timings(answer: Answer) -> str:
    stats = answer.stats
    copy = tag("button", "Copy", type="button", class_="dh-quiet", data_copy=answer.text)
    kept = stats.prompt_tokens - stats.read_tokens
    read = f"{stats.read_tokens:,} tokens read" + (f", {kept:,} kept" if kept > 0 else "")
    figures = [
        f"first token {seconds(stats.first_token_seconds)}",
        f"{stats.answer_tokens_per_second:,.0f} tokens/s",
        read,
    ]
    return tag("div", tag("span", text(" · ".join(figures))), copy, class_="dh-timings")

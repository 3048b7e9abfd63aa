"""The conversation as HTML: questions, answers, progress, citations, timings. All words of others are escaped."""

from markupsafe import Markup

from dca_hub.progress import about
from dca_hub.space import answer_text, sources_view
from dca_hub.space.markup import bar, join, notice, seconds, tag
from dca_hub.space.stoppable import in_line
from dca_hub.space.turns import Answer, Side, Turn

Marks = list[tuple[int, Markup]]


def past(turns: list[Turn]) -> Markup:
    """The finished turns; the last one can be edited, answered again and continued."""
    last = len(turns) - 1
    return join(_turn(number, turn, last=number == last) for number, turn in enumerate(turns))


def live(number: int, turn: Turn) -> Markup:
    """The turn that is being answered."""
    return _turn(number, turn, live=True)


def _turn(number: int, turn: Turn, live: bool = False, last: bool = False) -> Markup:
    said = tag(
        "div", tag("span", "You: ", class_="dh-hidden", dir="ltr"), turn.question, class_="dh-question", dir="auto"
    )
    edit = _press("undo", "Edit", "Edit this question") if last and not live else ""
    question = tag("div", edit, said, class_="dh-asked")
    answers = [_answer(number, side, answer, turn, last and not live) for side, answer in turn.answers.items()]
    columns = tag("div", *answers, class_=f"dh-answers dh-{'two' if len(answers) > 1 else 'one'}")
    return tag("article", question, columns, class_="dh-turn", aria_busy="true" if live else None)


def _answer(number: int, side: Side, answer: Answer, turn: Turn, last: bool) -> Markup:
    parts = []
    if len(turn.answers) > 1 or side == "plain" or answer.sparse:
        parts.append(tag("div", answer.name(side), class_=f"dh-side dh-side-{side}"))
    marks = sources_view.marks(answer.citations, number, side, answer.text) if answer.state == "done" else []
    parts.append(_body(answer, turn, marks))
    parts.append(_foot(number, side, answer, turn, last))
    return tag("section", *parts, class_="dh-answer", data_state=answer.state, aria_label=answer.name(side))


def _body(answer: Answer, turn: Turn, marks: Marks) -> Markup:
    scrolls = len(turn.answers) > 1
    if answer.state == "waiting":
        return _waiting(turn)
    if answer.state == "reading":
        return _reading(answer)
    if answer.state == "failed":
        return (_said(answer, marks, scrolls) if answer.text else Markup("")) + notice(answer.problem, "error")
    said = _said(answer, marks, scrolls) if answer.text.strip() or answer.state == "answering" else Markup("")
    if answer.state == "done" and not answer.text:
        said = tag("div", "The model gave no answer.", class_="dh-text dh-none")
    if answer.state == "stopped":
        said += tag("div", _where_stopped(answer), class_="dh-stopped")
    return said


def _said(answer: Answer, marks: Marks, scrolls: bool) -> Markup:
    """The answer; what a reasoning model thought before it is folded. scrolls: whether it does within its column."""
    caret = tag("span", class_="dh-caret") if answer.state == "answering" else ""
    thought, written, begin = answer.thoughts, answer.text, 0
    if not thought:  # it is being written still
        thought, written, begin = answer_text.split_thought(answer.text if marks else answer.text.strip())
    shown = answer_text.render(written, [(at - begin, mark) for at, mark in marks if at >= begin])
    folded = ""
    if thought:
        summary = tag("summary", "Thoughts" if written or not caret else "Thinking")
        folded = tag("details", summary, answer_text.render(thought), class_="dh-thought")
    return tag("div", folded, shown, caret, class_="dh-text", tabindex="0" if scrolls else None)


def _waiting(turn: Turn) -> Markup:
    words = turn.note or "Waiting for the model"
    where = in_line(turn.waiting) if turn.waiting is not None and not turn.note else ""
    said = tag("span", words, f": {where[0].lower()}{where[1:]}" if where else "")
    return tag("div", tag("span", class_="dh-spinner"), said, class_="dh-progress")


def _where_stopped(answer: Answer) -> str:
    if answer.text:
        return "Stopped."
    if answer.reading and answer.reading.done < answer.reading.total:
        return f"Stopped after {answer.reading.done:,} of {answer.reading.total:,} tokens; what was read is kept."
    return "Stopped before the answer."


def _reading(answer: Answer) -> Markup:
    reading = answer.reading
    words = f"Reading: {reading.done:,} of {reading.total:,} tokens"
    figures = [f"{reading.tokens_per_second:,.0f} tokens/s"]
    if reading.left is not None:
        figures.append(f"about {about(reading.left)} left")
    return bar(words, " · ".join(figures), reading.done / max(1, reading.total), "dh-reading")


def _foot(number: int, side: Side, answer: Answer, turn: Turn, last: bool) -> Markup | str:
    parts = []
    if answer.stats and answer.stats.ended == "length":
        parts.append(_cut("The answer reached the length limit that you set.", last and len(turn.answers) == 1))
    elif answer.stats and answer.stats.ended == "repetition":
        parts.append(_cut("Stopped: the answer had begun to repeat itself.", False))
    if answer.state == "done" and answer.text:
        parts.append(sources_view.listed(answer.citations, number, side, turn.names, answer.looks))
    if answer.finished and (answer.stats or last):
        parts.append(_timings(answer, last))
    return tag("footer", *parts) if parts else ""


def _cut(words: str, can_continue: bool) -> Markup:
    more = _press("continue", "Continue", "Continue this answer") if can_continue else ""
    return tag("div", tag("span", words), more, class_="dh-cut")


def _timings(answer: Answer, last: bool) -> Markup:
    buttons = []
    if last:
        buttons.append(_press("retry", "Regenerate", "Answer this question again"))
    copied = answer_text.split_thought(answer.text)[1].strip()
    if copied:
        buttons.append(tag("button", "Copy", type="button", class_="dh-quiet", data_copy=copied))
    figures = []
    if stats := answer.stats:
        kept = stats.prompt_tokens - stats.read_tokens
        read = f"{stats.read_tokens:,} tokens read" + (f", {kept:,} kept" if kept > 0 else "")
        figures = [
            f"first token {seconds(stats.first_token_seconds)}",
            f"{stats.answer_tokens_per_second:,.0f} tokens/s",
            read,
        ]
    words = tag("span", " · ".join(figures))
    return tag("div", words, tag("span", *buttons, class_="dh-row-buttons"), class_="dh-timings")


def _press(button: str, words: str, label: str) -> Markup:
    """A button that presses one of the page's own, by its id."""
    return tag("button", words, type="button", class_="dh-quiet", data_press=button, aria_label=label, title=label)

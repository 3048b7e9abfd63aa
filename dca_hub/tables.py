"""Tables, once: as Markdown for documents and cards, as HTML for a page, as aligned text for a terminal."""

import html
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """`head` and `rows` of cells as they are shown. `numbers` are the columns that are aligned at the right, by index;
    by default all but the first."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[int] | None = None

    def _is_number(self, column: int) -> bool:
        return column > 0 if self.numbers is None else column in self.numbers

    def markdown(self) -> str:
        rule = "".join("---:|" if self._is_number(column) else "---|" for column in range(len(self.head)))
        lines = ("| " + " | ".join(row) + " |" for row in (self.head, *self.rows))
        return "\n".join([next(lines), "|" + rule, *lines])

    def html(self) -> str:
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.head)
        cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>\n" for row in cells)
        return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"

    def text(self) -> str:
        """Columns as wide as their widest cell, two spaces apart, without spaces at the ends of lines."""
        lines = (self.head, *self.rows)
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if self._is_number(column) else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths))
            ).rstrip()
            for line in lines
        )

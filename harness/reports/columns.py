"""Tables of text for a terminal: thousands of rows in a few milliseconds."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells
from rich.color import ColorSystem
from rich.style import Style

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        heading: Its title.
        right: Whether its values are numbers, which stand at the right.
        fold_min: Characters down to which it may be narrowed by breaking its texts
            into lines; 0 for a column that keeps its width.
    """

    heading: str
    right: bool = False
    fold_min: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        cells: A text for each column, printed as it is and never read as markup;
            where they are fewer, the last columns stay empty.
        style: How the whole row looks, in rich's words.
        last_style: How its last cell looks.
    """

    cells: Sequence[str]
    style: str = ""
    last_style: str = ""


def terminal_width(*, least: int, most: int) -> int:
    """Return the width of the terminal within the bounds, in characters."""
    return min(max(shutil.get_terminal_size().columns, least), most)


def styled(text: str, style: str, *, color: bool) -> str:
    """Return the text with the codes of a style, where colours are shown."""
    if not color or not style or not text:
        return text
    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def text_table(
    columns: Sequence[Column], rows: Sequence[Row], *, width: int, color: bool
) -> str:
    """Return the rows under their headings, one line break after each line.

    rich's own table measures and wraps every cell several times: a second for 200
    cases of three rows. Its widths and styles are used, its layout is not.

    Args:
        columns: The columns.
        rows: The rows.
        width: Characters that a line may have; folding columns give way to it.
        color: Whether the terminal shows colours.
    """
    headings = Row([column.heading for column in columns], style="bold")
    widths = [
        max(
            cell_len(row.cells[index])
            for row in (headings, *rows)
            if index < len(row.cells)
        )
        for index in range(len(columns))
    ]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    for index, column in enumerate(columns):
        if over > 0 and column.fold_min:
            narrowed = max(column.fold_min, widths[index] - over)
            over -= max(0, widths[index] - narrowed)
            widths[index] = min(widths[index], narrowed)
    lines = _lines(headings, columns, widths, color=color)
    lines.append("─" * (sum(widths) + len(_GAP) * (len(widths) - 1)))
    for row in rows:
        lines += _lines(row, columns, widths, color=color)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _lines(
    row: Row, columns: Sequence[Column], widths: Sequence[int], *, color: bool
) -> list[str]:
    """Return the row as a line, or as several where a text had to be broken."""
    parts = [
        chop_cells(text, width) if cell_len(text) > width else [text]
        for text, width in zip(row.cells, widths, strict=False)
    ]
    last = len(parts) - 1
    lines = []
    for number in range(max(len(texts) for texts in parts)):
        cells = []
        for index, texts in enumerate(parts):
            text = texts[number] if number < len(texts) else ""
            padding = " " * (widths[index] - cell_len(text))
            style = row.last_style if index == last and row.last_style else row.style
            text = styled(text, style, color=color)
            cells.append(padding + text if columns[index].right else text + padding)
        lines.append(_GAP.join(cells))
    return lines

"""A chart as inline SVG: a frame with axes, and marks in it.

Colours come from classes of the page's style sheet, so that a chart follows the
reader's light or dark scheme. Nothing in it needs a script.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.reports.page.markup import tag

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from harness.reports.page.axes import Axis

WIDTH, HEIGHT = 520.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 66.0, 18.0, 14.0, 50.0
# More colours than these cannot be told apart; see the style sheet.
COLOURS = 6
# Room of one character of a tick label.
_CHARACTER = 8.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """One entry of a legend.

    Attributes:
        style: Class of the mark: its colour and stroke.
        text: What it stands for.
        mark: "line" or "dot".
    """

    style: str
    text: str
    mark: str = "line"


class Chart:
    """A frame with two axes; marks are added in the units of the axes."""

    def __init__(
        self, *, x: Axis, y: Axis, height: float = HEIGHT, bottom: float = BOTTOM
    ) -> None:
        self._x, self._y = x, y
        self._height = height
        self._floor = height - bottom
        self._marks: list[Element] = []
        self._frame = [*self._grid_y(), *self._grid_x()]

    def left(self, value: float) -> float:
        """Return the horizontal place of a value."""
        return LEFT + self._x.at(value) * (WIDTH - LEFT - RIGHT)

    def top(self, value: float) -> float:
        """Return the vertical place of a value."""
        return self._floor - self._y.at(value) * (self._floor - TOP)

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """Draw a line through the points."""
        if points:
            path = " ".join(
                f"{'L' if index else 'M'}{self.left(x):.1f} {self.top(y):.1f}"
                for index, (x, y) in enumerate(points)
            )
            self._marks.append(tag("path", d=path, class_=f"line {style}"))

    def area(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """Fill what is below the points."""
        if points:
            first, last = self.left(points[0][0]), self.left(points[-1][0])
            inner = " ".join(
                f"L{self.left(x):.1f} {self.top(y):.1f}" for x, y in points
            )
            floor = f"{self._floor:.1f}"
            path = f"M{first:.1f} {floor} {inner} L{last:.1f} {floor} Z"
            self._marks.append(tag("path", d=path, class_=f"area {style}"))

    def whisker(self, x: float, low: float, high: float, style: str) -> None:
        """Draw an interval as an upright bar with ends."""
        left, bottom, top = self.left(x), self.top(low), self.top(high)
        path = (
            f"M{left:.1f} {bottom:.1f} V{top:.1f} "
            f"M{left - 3:.1f} {bottom:.1f} h6 M{left - 3:.1f} {top:.1f} h6"
        )
        self._marks.append(tag("path", d=path, class_=f"line thin {style}"))

    def dot(
        self, x: float, y: float, style: str, *, title: str = "", radius: float = 3.2
    ) -> None:
        """Draw a point; its title shows when the pointer rests on it."""
        self._marks.append(
            tag(
                "circle",
                tag("title", title) if title else None,
                cx=f"{self.left(x):.1f}",
                cy=f"{self.top(y):.1f}",
                r=f"{radius:g}",
                class_=f"dot {style}",
            )
        )

    def upright(self, x: float, style: str) -> None:
        """Draw a line from floor to top."""
        left = f"{self.left(x):.1f}"
        self._marks.append(
            tag(
                "path",
                d=f"M{left} {self._floor:.1f} V{TOP:g}",
                class_=f"line {style}",
            )
        )

    def note(self, x: float, y: float, text: str, *, style: str = "") -> None:
        """Write beside a point, on the side where there is room."""
        left, top = self.left(x), self.top(y)
        is_right = left > WIDTH * 0.6
        self._marks.append(
            tag(
                "text",
                text,
                x=f"{left + (-8 if is_right else 8):.1f}",
                y=f"{max(TOP + 9, top - 8):.1f}",
                text_anchor="end" if is_right else "start",
                class_=f"note {style}".rstrip(),
            )
        )

    def svg(self, *, title: str, description: str) -> Element:
        """Return the drawing; a screen reader reads the title and the description."""
        return drawing(
            *self._frame,
            *self._marks,
            width=WIDTH,
            height=self._height,
            title=title,
            description=description,
        )

    def _grid_y(self) -> list[Element]:
        parts = []
        for value, text in self._y.ticks:
            top = f"{self.top(value):.1f}"
            parts.append(
                tag("path", d=f"M{LEFT:g} {top} H{WIDTH - RIGHT:g}", class_="grid")
            )
            parts.append(
                tag(
                    "text",
                    text,
                    x=f"{LEFT - 8:g}",
                    y=top,
                    dy="0.35em",
                    text_anchor="end",
                    class_="tick",
                )
            )
        return parts

    def _grid_x(self) -> list[Element]:
        parts = [
            tag(
                "path",
                d=f"M{LEFT:g} {self._floor:.1f} H{WIDTH - RIGHT:g}",
                class_="axis",
            )
        ]
        taken = -1.0
        for value, text in self._x.ticks:
            left, half = self.left(value), len(text) * _CHARACTER / 2
            parts.append(
                tag("path", d=f"M{left:.1f} {self._floor:.1f} v4", class_="axis")
            )
            if left - half < taken:
                continue
            taken = left + half + 4
            parts.append(
                tag(
                    "text",
                    text,
                    x=f"{min(left, WIDTH - half):.1f}",
                    y=f"{self._floor + 20:.1f}",
                    text_anchor="middle",
                    class_="tick",
                )
            )
        if self._x.label:
            parts.append(
                tag(
                    "text",
                    self._x.label,
                    x=f"{(LEFT + WIDTH - RIGHT) / 2:.1f}",
                    y=f"{self._floor + 41:.1f}",
                    text_anchor="middle",
                    class_="label",
                )
            )
        return parts


def drawing(
    *marks: Element, width: float, height: float, title: str, description: str
) -> Element:
    """Return an SVG that says in words what it shows.

    As a label, not as an SVG title: that would follow the pointer over the chart.
    """
    return tag(
        "svg",
        *marks,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=f"{title}. {description}",
    )


def figure(
    drawn: Element, *, heading: str, caption: str = "", keys: Sequence[Key] = ()
) -> Element:
    """Return a drawing with its heading, its legend and what to see in it."""
    return tag(
        "figure",
        tag("h4", heading),
        tag("ul", *(_entry(key) for key in keys), class_="keys") if keys else None,
        drawn,
        tag("figcaption", caption) if caption else None,
    )


def _entry(key: Key) -> Element:
    mark = (
        tag("circle", cx="12", cy="6", r="4", class_=f"dot {key.style}")
        if key.mark == "dot"
        else tag("path", d="M1 6 H23", class_=f"line {key.style}")
    )
    swatch = tag(
        "svg", mark, viewBox="0 0 24 12", width="24", height="12", aria_hidden="true"
    )
    return tag("li", swatch, tag("span", key.text))

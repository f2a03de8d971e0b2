"""What the page shows of one case: read from its record, with distrust."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.clock import NS_PER_S
from harness.errors import ReportError
from harness.load import QUANTILES, LogLinearHistogram, samples_needed
from harness.reports.record import case_block_of

if TYPE_CHECKING:
    from harness.reports.record import CaseBlock
    from harness.reports.store import SavedReport

# A name longer than this is cut: nobody reads the rest, and it may be an attack.
NAME_CHARACTERS_MAX = 160
# A curve has a point every twentieth of a nine.
_CURVE_STEP = 0.05
_NINES_MAX = 6.0
_NUMBERED = re.compile(r"([a-z_]+)=0*(\d+(?:\.\d+)?)")
# Words of a measure that people write in capitals.
_ABBREVIATED = {"cpu", "itl", "tpot", "ttft"}


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseView:
    """One case of one run.

    Attributes:
        fullname: Its node id.
        name: The name of the test, without "test_", cut where it is very long.
        function: The name without its parameters.
        group: Its benchmark group.
        measure: What its values are, in words.
        stats: Its figures, in seconds and per second.
        block: What lakegauge recorded; None in a report of plain pytest-benchmark.
        parameters: Name and number of each numbered parameter of its id.
        problem: Why a part of it cannot be shown; "" if all can.
    """

    fullname: str
    name: str
    function: str
    group: str
    measure: str
    stats: dict[str, Any]
    block: CaseBlock | None
    parameters: dict[str, float]

    @property
    def label(self) -> str:
        """Its parameters, or the whole name where it has none."""
        return self.name[len(self.function) :].strip("[]") or self.name

    def duration_s(self, key: str) -> float | None:
        """Return a figure of `stats` in seconds; None where it has too few values."""
        if self.block is None and key == "p50":
            key = "median"
        value = self.stats.get(key)
        return float(value) if isinstance(value, int | float) else None

    @property
    def errors_count(self) -> int:
        """Operations that failed."""
        return int(self.stats.get("errors") or 0)

    @property
    def values_count(self) -> int:
        """How many values the figures are made from."""
        return self.block.values_count if self.block else int(self.stats["rounds"])

    @property
    def is_load(self) -> bool:
        """Whether callers worked side by side, so that throughput means something."""
        return self.block is not None and self.block.kind != "micro"

    def curve(self) -> list[tuple[float, float]]:
        """Return (nines, seconds) as far as the number of values reaches."""
        if self.block is None or self.block.histogram is None:
            return []
        try:
            return _curve(LogLinearHistogram.from_json(self.block.histogram))
        except (ReportError, OverflowError):
            # Damaged, or numbers that no clock gave: the figures stand without it.
            return []


def _curve(histogram: LogLinearHistogram) -> list[tuple[float, float]]:
    count = len(histogram)
    nines = np.arange(0, _NINES_MAX, _CURVE_STEP)
    shares = 1 - 10.0**-nines
    kept = [
        index
        for index, share in enumerate(shares)
        if share <= QUANTILES["p50"] or samples_needed(float(share)) <= count
    ]
    if not count or not kept:
        return []
    values_s = histogram.quantiles(shares[kept]) / NS_PER_S
    return [(float(n), float(v)) for n, v in zip(nines[kept], values_s, strict=True)]


def views_of(report: SavedReport) -> list[CaseView]:
    """Return the cases of a report that `read_report` gave, in its order."""
    return [_view(record) for record in report.records.values()]


def _view(record: dict[str, Any]) -> CaseView:
    block = case_block_of(record)
    name = cut(str(record["name"]).removeprefix("test_"))
    return CaseView(
        fullname=record["fullname"],
        name=name,
        function=name.partition("[")[0],
        group=cut(str(record.get("group") or "ungrouped")),
        measure=_words(block.measure if block else "round_time"),
        stats=record["stats"],
        block=block,
        parameters={
            key: float(number)
            for key, number in _NUMBERED.findall(name.partition("[")[2])
        },
    )


def cut(text: str, length: int = NAME_CHARACTERS_MAX) -> str:
    """Return a text that is short enough to be shown."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _words(measure: str) -> str:
    """Return the name of a measure as people write it: "CPU per million rows"."""
    words = measure.split("_")
    return " ".join(w.upper() if w in _ABBREVIATED else w for w in words)

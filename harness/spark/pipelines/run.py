"""What a run of a pipeline reported, wherever it ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineEvent:
    """One thing a run reported.

    Attributes:
        at: When, by the server's clock.
        message: Its sentence.
        flow: The flow it is about, if any.
        state: What the flow or the run became, as COMPLETED, if it says that.
    """

    at: datetime
    message: str
    flow: str | None = None
    state: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineRun:
    """A run that came to its end.

    Attributes:
        events: All it reported, in order.
    """

    events: tuple[PipelineEvent, ...]

    @property
    def flow_s(self) -> dict[str, float]:
        """Seconds from the start of each flow to its end."""
        began: dict[str, datetime] = {}
        took: dict[str, float] = {}
        for event in self.events:
            if event.flow is None:
                continue
            if event.state in {"STARTING", "RUNNING"}:
                began.setdefault(event.flow, event.at)
            elif event.state == "COMPLETED" and event.flow in began:
                took[event.flow] = (event.at - began[event.flow]).total_seconds()
        return took

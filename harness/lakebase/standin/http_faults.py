"""Answers other than the right one, from a control plane told to give them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError

# What the service says with each status; the SDK's exception types follow.
CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "ABORTED",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpFault:
    """What happens to requests whose path holds `path`.

    Attributes:
        path: Part of the path; "" for every request.
        status: Status to answer with; None for the right answer, only later.
        body: Answer's text; None for the service's own error.
        headers: Headers to add, such as Retry-After.
        delay_s: Time before the answer.
        hangs: No answer at all; the connection stays open.
        skip: Requests that are answered rightly first.
        count: Requests it happens to; None for all that follow.
        from_s: From when on it happens, seconds from when it was asked for.
        until_s: Until when; None for no end.
    """

    path: str = ""
    status: int | None = None
    body: str | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    delay_s: float = 0.0
    hangs: bool = False
    skip: int = 0
    count: int | None = 1
    from_s: float = 0.0
    until_s: float | None = None

    def __post_init__(self) -> None:
        if self.status is not None and not 200 <= self.status <= 599:  # noqa: PLR2004
            msg = f"status must be between 200 and 599, got {self.status}"
            raise ConfigError(msg)
        too_few = self.count is not None and self.count < 1
        if self.delay_s < 0 or self.skip < 0 or too_few:
            msg = f"delay_s and skip must be >= 0 and count >= 1, got {self}"
            raise ConfigError(msg)


class HttpFaults:
    """The faults in force; each request is hit by the first that fits."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    def add(self, fault: HttpFault, *, now_s: float) -> None:
        """Put a fault in force."""
        self._waiting.append(_Waiting(fault, asked_s=now_s))

    def clear(self) -> None:
        """Take every fault back."""
        self._waiting.clear()

    def next_for(self, path: str, *, now_s: float) -> HttpFault | None:
        """Return what happens to a request now, or None for the right answer."""
        for waiting in self._waiting:
            fault, age_s = waiting.fault, now_s - waiting.asked_s
            if (
                fault.path not in path
                or age_s < fault.from_s
                or (fault.until_s is not None and age_s >= fault.until_s)
            ):
                continue
            waiting.seen += 1
            hits = waiting.seen - fault.skip
            if hits < 1:
                continue
            if fault.count is not None and hits >= fault.count:
                self._waiting.remove(waiting)
            return fault
        return None


@dataclass
class _Waiting:
    fault: HttpFault
    asked_s: float
    seen: int = 0


def error_body(status: int, message: str) -> dict[str, Any]:
    """Return the body the service sends with an error."""
    return {"error_code": CODES.get(status, "UNKNOWN"), "message": message}

"""The deadline of one call: what is left of it, for every read and every wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from harness.clock import Clock


class DeadlinePassedError(Exception):
    """The deadline came in the middle of a response."""


class ConnectionLostError(Exception):
    """The connection broke in the middle of a response."""


class Deadline:
    """When a call must be over, retries and waits included.

    Args:
        seconds: Time from now.
        clock: Tells how much is left.
        silence_s: Longest time without a byte of the response, in seconds; None
            leaves it to the deadline.

    Attributes:
        at_ns: When it is, on the clock's monotonic time.
        peer_closed: Whether the other side closed the connection in this call.
        holds_head: Whether the next bytes written are a head whose body follows at
            once: both then go out together.
    """

    __slots__ = (
        "_clock",
        "_total_s",
        "at_ns",
        "holds_head",
        "peer_closed",
        "silence_s",
    )

    def __init__(
        self, seconds: float, *, clock: Clock, silence_s: float | None = None
    ) -> None:
        self._clock = clock
        self._total_s = seconds
        self.silence_s = silence_s
        self.at_ns = clock.monotonic_ns() + round(seconds * NS_PER_S)
        self.peer_closed = False
        self.holds_head = False

    def remaining_s(self) -> float:
        """Return the seconds left; 0 or less when it has passed."""
        return (self.at_ns - self._clock.monotonic_ns()) / NS_PER_S

    def why(self) -> str:
        """Say what passed when a read was given up."""
        if self.silence_s is not None and self.remaining_s() > 0:
            return f"nothing came for {self.silence_s:g} s"
        return f"no whole answer within {self._total_s:g} s"

    def renew(self) -> Deadline:
        """Return it for another request of the same call."""
        self.peer_closed = False
        return self

    def shorten(self, seconds: float) -> None:
        """Allow at most *seconds* from now."""
        at_ns = self._clock.monotonic_ns() + round(seconds * NS_PER_S)
        self.at_ns = min(self.at_ns, at_ns)

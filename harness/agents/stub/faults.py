"""What a stub does wrong on purpose, and to which requests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

FaultKind = Literal[
    "status",  # answer with `status`, a body of the platform's and `retry_after`
    "html",  # the same, with an HTML page; status 200 is a login page
    "reset",  # RST before the response
    "close",  # an orderly end before the response
    "hang",  # nothing ever comes
    "reset-mid",  # RST after `after_tokens`
    "half-close",  # FIN inside a chunk after `after_tokens`
    "truncate",  # the body ends in order after `after_tokens`, without an end marker
    "stall",  # nothing more for `seconds` after `after_tokens`, then the rest
    "drip",  # the rest byte by byte, every `seconds`
    "malformed",  # a frame that is no JSON after `after_tokens`, then the rest
    "oversized",  # a frame of `frame_bytes` after `after_tokens`, then the rest
    "error-event",  # a typed `error` event after `after_tokens`, then the end
    "untyped-error",  # {"error": ...} after `after_tokens`, then the end
    "content-type",  # a good answer that calls itself text/plain
    "bad-json",  # a body that is cut in half, whole by its length
    "expire-token",  # 401 once: the token given out is no longer accepted
]
STATUSES = (400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing done wrong, and when.

    A fault strikes a request if all that is given here fits: its number, the time
    since the run began, and chance. The first fault of a plan that strikes is done.

    Attributes:
        kind: What is done; `FaultKind` lists it.
        requests: Numbers of the questions struck, the first is 1; empty for all.
        every: Strikes every nth question; 0 for all.
        probability: Chance to strike, 0 to 1; the same for the same seed.
        from_s: Strikes from so many seconds after the start or the last reset on.
        until_s: Up to so many seconds, not included.
        status: HTTP status for "status" and "html".
        error_code: The platform's code in the body; by default that of the status.
        retry_after: Header value: seconds, or an HTTP date; "" for none.
        after_tokens: Tokens written before it.
        seconds: See "stall" and "drip".
        frame_bytes: See "oversized".
    """

    kind: FaultKind
    requests: tuple[int, ...] = ()
    every: int = 0
    probability: float = 1.0
    from_s: float = 0.0
    until_s: float = math.inf
    status: int = 503
    error_code: str = ""
    retry_after: str = ""
    after_tokens: int = 3
    seconds: float = 0.05
    frame_bytes: int = 17 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            kinds = ", ".join(get_args(FaultKind))
            msg = f"fault kind is {self.kind!r}; it must be one of {kinds}"
            raise ConfigError(msg)
        if not 0 <= self.probability <= 1:
            msg = f"fault probability must be in 0..1, got {self.probability}"
            raise ConfigError(msg)
        if self.kind == "status" and self.status not in STATUSES:
            msg = f"fault status is {self.status}; it must be one of {STATUSES}"
            raise ConfigError(msg)
        for name in ("every", "after_tokens", "seconds", "frame_bytes", "from_s"):
            if getattr(self, name) < 0:
                msg = f"fault {name} must be >= 0, got {getattr(self, name)}"
                raise ConfigError(msg)
        object.__setattr__(self, "requests", tuple(self.requests))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Fault:
        """Return the fault that *values* describe.

        Raises:
            ConfigError: If a name is unknown or a value impossible.
        """
        given = dict(values)
        if given.get("until_s", 0.0) is None:
            del given["until_s"]
        try:
            return cls(**given)
        except TypeError as error:
            msg = f"not a fault: {error}"
            raise ConfigError(msg) from error

    def strikes(self, number: int, *, at_s: float, seed: int) -> bool:
        """Whether it strikes question *number*, asked *at_s* after the start."""
        if self.requests and number not in self.requests:
            return False
        if self.every and number % self.every:
            return False
        if not self.from_s <= at_s < self.until_s:
            return False
        if self.probability >= 1:
            return True
        random = Random(f"{seed}/{self.kind}/{number}")  # noqa: S311 - no secret
        return random.random() < self.probability


# The platform's code for a status, where the fault names none.
ERROR_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    408: "DEADLINE_EXCEEDED",
    413: "MAX_REQUEST_SIZE_EXCEEDED",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    502: "BAD_GATEWAY",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

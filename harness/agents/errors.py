"""What can go wrong with an agent endpoint, told apart by status and `error_code`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, ClassVar

from harness.errors import (
    AgentError,
    Classification,
    ErrorCategory,
    Severity,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.clock import Clock

MESSAGE_CHARS_MAX = 300


def _kind(category: str, severity: str, verdict: str) -> Classification:
    return Classification(ErrorCategory(category), Severity(severity), Verdict(verdict))


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One request of a call.

    Attributes:
        error: Class name of the failure; None for the one that was answered.
        status: HTTP status, or None when no response came.
        wait_s: Time slept after it, in seconds; 0 when it was the last.
        reason: What happened, and why it was waited for, in words.
        took_s: From sending until the answer or the failure, in seconds.
    """

    error: str | None
    status: int | None
    wait_s: float = 0.0
    reason: str = ""
    took_s: float = 0.0


class AgentCallError(AgentError):
    """A call to an agent endpoint failed; the subclass says how.

    Attributes:
        classification: The failure in the words of reports and alerts.
        status: HTTP status, or None when no response came.
        error_code: The platform's own code (`error_code` in the body), if any.
        request_id: The endpoint's id of the request, if it gave one.
        retry_after_s: How long the endpoint asked to wait, if it did.
        partial_text: The part of the answer received before the failure.
        attempts: Every request made for this call, the last included.
        asked: The endpoint that was asked: its name, or the address where it has none;
            None for an error that no client raised.
    """

    advice: ClassVar[str] = ""
    classification: ClassVar[Classification] = Classification(
        ErrorCategory.UNKNOWN, Severity.MEDIUM, Verdict.PERMANENT
    )

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        partial_text: str = "",
    ) -> None:
        self.status = status
        self.error_code = error_code
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.partial_text = partial_text
        self.attempts: tuple[Attempt, ...] = ()
        self.asked: str | None = None
        if self.advice:
            message = f"{message}; {self.advice}"
        if request_id:
            message = f"{message} (request id {request_id})"
        super().__init__(message)

    def explain(self, text: str) -> None:
        """Add to the message, such as why the call was not repeated."""
        self.args = (f"{self.args[0]}; {text}",)

    def rewrite(self, change: Callable[[str], str]) -> None:
        """Pass every text a server may have written through *change*."""
        self.args = tuple(change(a) if isinstance(a, str) else a for a in self.args)
        self.partial_text = change(self.partial_text)
        if self.error_code is not None:
            self.error_code = change(self.error_code)


class AgentAuthError(AgentCallError):
    """The token is missing, wrong or expired."""

    classification = _kind("authentication", "critical", "permanent")
    advice = "check DATABRICKS_TOKEN: it may have expired or be of another workspace"


class AgentPermissionError(AgentCallError):
    """The token is known but may not query this endpoint."""

    classification = _kind("authorization", "high", "permanent")
    advice = "ask for CAN QUERY, or see if the endpoint's rate limit was set to 0"


class AgentNotFoundError(AgentCallError):
    """The workspace has no such endpoint."""

    classification = _kind("configuration", "high", "permanent")
    advice = "check DATABRICKS_MODEL (ka-...-endpoint) and DATABRICKS_BASE_URL"


class AgentRateLimitedError(AgentCallError):
    """The endpoint takes no more requests for now; see `retry_after_s`."""

    classification = _kind("rate_limiting", "low", "retryable")
    advice = "lower the load, or allow more time in AGENTBRICKS_TIMEOUT"


class AgentNotReadyError(AgentCallError):
    """The endpoint is starting, scaling from zero or has no healthy server."""

    classification = _kind("system", "medium", "retryable")
    advice = "wait until the endpoint is ready, then call again"


class AgentPayloadTooLargeError(AgentCallError):
    """The question is larger than the endpoint accepts (4 MB for agents)."""

    classification = _kind("validation", "medium", "permanent")


class AgentRequestError(AgentCallError):
    """The endpoint rejected the request as malformed or of the wrong task."""

    classification = _kind("validation", "medium", "permanent")


class AgentServerError(AgentCallError):
    """The agent's code or a gateway before it failed."""

    classification = _kind("system", "high", "outcome_unknown")


class AgentTimeoutError(AgentCallError, TimeoutError):
    """No whole answer within the total deadline of the call."""

    classification = _kind("network", "high", "outcome_unknown")
    advice = "raise AGENTBRICKS_TIMEOUT if the endpoint is only slow"


class AgentConnectionError(AgentCallError):
    """No connection to the endpoint, or it was lost before the response began."""

    classification = _kind("network", "high", "retryable")
    advice = "check DATABRICKS_BASE_URL and that the host can be reached"


class AgentProxyError(AgentCallError):
    """The proxy between us and the endpoint refuses to connect."""

    classification = _kind("configuration", "high", "permanent")
    advice = "check user and password in HTTPS_PROXY, or name the host in NO_PROXY"


class AgentStreamTruncatedError(AgentCallError):
    """The stream ended before its end marker; see `partial_text`."""

    classification = _kind("network", "high", "outcome_unknown")


class AgentStreamError(AgentCallError):
    """The endpoint reported a failure inside the stream; see `partial_text`."""

    classification = _kind("system", "high", "outcome_unknown")


class AgentBadResponseError(AgentCallError):
    """The response is not what the protocol says: HTML, bad JSON, no output."""

    classification = _kind("system", "high", "permanent")


class AgentCircuitOpenError(AgentCallError):
    """Not sent: the endpoint failed so often that it is left alone for a while."""

    classification = _kind("system", "medium", "retryable")


class StubLateError(AgentError):
    """The stub could not keep its own schedule: the run measures nothing."""


# The platform's code is more exact than the status, where it is known.
_BY_CODE: dict[str, type[AgentCallError]] = {
    "UNAUTHENTICATED": AgentAuthError,
    "PERMISSION_DENIED": AgentPermissionError,
    "RESOURCE_DOES_NOT_EXIST": AgentNotFoundError,
    "ENDPOINT_NOT_FOUND": AgentNotFoundError,
    "REQUEST_LIMIT_EXCEEDED": AgentRateLimitedError,
    "RESOURCE_EXHAUSTED": AgentRateLimitedError,
    "TEMPORARILY_UNAVAILABLE": AgentNotReadyError,
    "BAD_REQUEST": AgentRequestError,
    "INVALID_PARAMETER_VALUE": AgentRequestError,
    "MALFORMED_REQUEST": AgentRequestError,
    "MAX_REQUEST_SIZE_EXCEEDED": AgentPayloadTooLargeError,
}
_BY_STATUS: dict[int, type[AgentCallError]] = {
    401: AgentAuthError,
    403: AgentPermissionError,
    404: AgentNotFoundError,
    408: AgentTimeoutError,
    413: AgentPayloadTooLargeError,
    429: AgentRateLimitedError,
    503: AgentNotReadyError,
    504: AgentTimeoutError,
}
_PLAIN_CODE = re.compile(r"^([A-Z][A-Z_]+): ")


def kind_of_code(code: str | None) -> type[AgentCallError] | None:
    """Return the error that the platform's own code stands for, if it is known."""
    return _BY_CODE.get(code or "")


def error_from_response(
    *,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    request_id: str | None,
    clock: Clock,
) -> AgentCallError:
    """Return the error that a response other than 2xx stands for.

    Args:
        status: HTTP status of the response.
        headers: Its headers, names in lower case.
        body: Its body, or the beginning of it.
        request_id: The endpoint's id of the request, if known.
        clock: Tells the time for a Retry-After that is a date.
    """
    code, text = read_error_body(body)
    retry_after_s = parse_retry_after(headers.get("retry-after"), clock=clock)
    kind = kind_of_code(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = (
            AgentServerError
            if status >= 500  # noqa: PLR2004 - the HTTP class of server errors
            else AgentRequestError
            if status >= 400  # noqa: PLR2004 - the HTTP class of client errors
            else AgentBadResponseError
        )
    message = " ".join(
        part for part in ("agent endpoint answered", str(status), code) if part
    )
    if text:
        message = f"{message}: {text}"
    if 300 <= status < 400:  # noqa: PLR2004 - the HTTP class of redirects
        message = f"{message}; not followed: the token goes to the named host alone"
    if retry_after_s is not None:
        message = f"{message}; it asked to wait {retry_after_s:g} s"
    return kind(
        message,
        status=status,
        error_code=code,
        request_id=request_id,
        retry_after_s=retry_after_s,
    )


def read_error_body(body: bytes) -> tuple[str | None, str]:
    """Return (error code, message) of an error body in any form seen live.

    Forms: `{"error_code", "message"}`, `{"error": "..." or {"code", "message"}}`,
    `{"detail"}`, `CODE: message`, HTML (which is named, not quoted).
    """
    text = body.decode("utf-8", "replace").strip()
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        if text[:1] == "<":
            return None, "an HTML page"
        found = _PLAIN_CODE.match(text)
        return (found.group(1) if found else None), _short(text)
    return read_error(parsed)


def read_error(parsed: object) -> tuple[str | None, str]:
    """Return (error code, message) of an error object, parsed from JSON."""
    if not isinstance(parsed, dict):
        return None, _short(str(parsed))
    inner = parsed.get("error")
    source = inner if isinstance(inner, dict) else parsed
    code = source.get("error_code") or source.get("code")
    text = source.get("message") or source.get("detail") or inner or ""
    return (str(code) if code else None), _short(str(text))


def parse_retry_after(value: str | None, *, clock: Clock) -> float | None:
    """Return seconds to wait from a Retry-After header: number or HTTP date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - clock.now()).total_seconds()
        except (ValueError, TypeError):
            return None
        return max(0.0, seconds)
    return seconds if 0.0 <= seconds < float("inf") else None


def _short(text: str) -> str:
    text = " ".join(text.split())
    if len(text) <= MESSAGE_CHARS_MAX:
        return text
    return text[:MESSAGE_CHARS_MAX] + "..."

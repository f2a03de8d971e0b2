"""Whether a serving endpoint can be asked now: its state, and how to wait for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness.agents.errors import AgentBadResponseError, AgentCallError
from harness.agents.json_values import as_list, as_mapping, as_text
from harness.errors import Classification, ErrorCategory, Severity, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[["EndpointState", float], object]

STATE_POLL_S = 2.0
READY_TIMEOUT_S = 900.0  # deploying an agent takes up to a quarter of an hour


class AgentEndpointFailedError(AgentCallError):
    """The endpoint is not starting: its last update failed."""

    classification = Classification(
        ErrorCategory.CONFIGURATION, Severity.HIGH, Verdict.PERMANENT
    )
    advice = "look at the endpoint's events in the workspace"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointState:
    """What the workspace says of an endpoint.

    Attributes:
        name: Its name.
        task: What it speaks, such as "agent/v1/responses"; None if unsaid.
        ready: Whether it takes questions, perhaps after scaling from zero.
        config_update: NOT_UPDATING, IN_PROGRESS, UPDATE_FAILED or UPDATE_CANCELED.
        scaled_to_zero: Whether it has no server running, so that the first question
            waits until one is; None if unsaid.
    """

    name: str
    task: str | None
    ready: bool
    config_update: str
    scaled_to_zero: bool | None = None

    def describe(self) -> str:
        """Return one line for the terminal."""
        state = "ready" if self.ready else "not ready"
        if self.config_update not in {"NOT_UPDATING", ""}:
            state += f", update {self.config_update.lower().replace('_', ' ')}"
        if self.scaled_to_zero:
            state += ", scaled to zero: the first question waits for a server"
        return f"{self.name} ({self.task or 'task unknown'}): {state}"


def state_path(model: str) -> str:
    """Return the path of the state of an endpoint, below the workspace's address."""
    return f"/api/2.0/serving-endpoints/{quote(model, safe='')}"


def read_state(body: bytes, *, model: str) -> EndpointState:
    """Return the state that the workspace sent.

    Raises:
        AgentBadResponseError: If it is none.
    """
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("state"), dict):
        msg = f"the workspace did not tell the state of {model!r} ({len(body)} bytes)"
        raise AgentBadResponseError(msg)
    state = parsed["state"]
    entities = as_list(as_mapping(parsed.get("config")).get("served_entities"))
    deployments = [
        " ".join(
            as_text(told.get(name)) or ""
            for name in ("deployment", "deployment_state_message")
        )
        for told in (as_mapping(as_mapping(e).get("state")) for e in entities)
    ]
    zero: bool | None = None
    if deployments:
        zero = any("zero" in text.lower() for text in deployments)
    return EndpointState(
        name=as_text(parsed.get("name")) or model,
        task=as_text(parsed.get("task")),
        ready=state.get("ready") == "READY",
        config_update=as_text(state.get("config_update")) or "",
        scaled_to_zero=zero,
    )


def refuse_failed(state: EndpointState) -> None:
    """Refuse an endpoint that will not become ready by waiting.

    Raises:
        AgentEndpointFailedError: If its update failed or was cancelled.
    """
    if not state.ready and state.config_update in {"UPDATE_FAILED", "UPDATE_CANCELED"}:
        raise AgentEndpointFailedError(state.describe())

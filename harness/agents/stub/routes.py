"""What a request asks of a stub: a question, a state, or the stub itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from harness.agents.stub.http1 import RejectedError, Request

if TYPE_CHECKING:
    from harness.agents.stub.plan import StubPlan

PREFIX = "/serving-endpoints/"
# Where tools made for OpenAI's own service ask.
OPENAI_PREFIX = "/v1/"
STATE_PREFIX = "/api/2.0/serving-endpoints/"
ADMIN_PREFIX = "/stub/"


class Question(NamedTuple):
    """One question.

    Attributes:
        model: Name of the endpoint.
        stream: Whether the answer is to be streamed.
        chat: Whether it is asked, and answered, as a chat completion.
    """

    model: str
    stream: bool
    chat: bool


def read_question(request: Request) -> Question:
    """Return the question a request asks.

    Raises:
        RejectedError: If the path, the verb or the body is not a question.
    """
    path = request.path
    prefix = OPENAI_PREFIX if path.startswith(OPENAI_PREFIX) else PREFIX
    route = path.removeprefix(prefix)
    name = route.removesuffix("/invocations")
    by_model = route in {"responses", "chat/completions"}
    if not path.startswith(prefix) or not (
        by_model or (route.endswith("/invocations") and name and "/" not in name)
    ):
        raise RejectedError(404, "ENDPOINT_NOT_FOUND", f"no serving endpoint at {path}")
    if request.method != "POST":
        raise RejectedError(405, "BAD_REQUEST", f"{request.method} is not allowed")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        msg = "Bad request: the body is not JSON"
        raise RejectedError(400, "MALFORMED_REQUEST", msg) from error
    if not isinstance(body, dict):
        raise RejectedError(
            400, "MALFORMED_REQUEST", "Bad request: the body is not a JSON object"
        )
    model = body.get("model") if by_model else unquote(name)
    if not isinstance(model, str) or not model:
        raise RejectedError(400, "INVALID_PARAMETER_VALUE", "Missing model")
    chat = route == "chat/completions" or (not by_model and "messages" in body)
    asked = "messages" if chat else "input"
    question = body.get(asked)
    if not isinstance(question, (list, str)) or not question:
        raise RejectedError(400, "INVALID_PARAMETER_VALUE", f"Missing {asked}")
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise RejectedError(
            400, "INVALID_PARAMETER_VALUE", "stream must be true or false"
        )
    return Question(model, stream, chat)


def state_of(request: Request, plan: StubPlan, *, running: bool) -> dict[str, Any]:
    """Return the state of an endpoint, as the workspace tells it.

    Raises:
        RejectedError: If the request is none for a state.
    """
    name = unquote(request.path.removeprefix(STATE_PREFIX))
    if request.method != "GET" or not name or "/" in name:
        raise RejectedError(404, "RESOURCE_DOES_NOT_EXIST", f"no {request.path} here")
    return {
        "name": name,
        "id": f"stub-{name}",
        "creator": "stub",
        "creation_timestamp": 1767225600000,
        "last_updated_timestamp": 1767225600000,
        "state": {
            "ready": "READY" if running else "NOT_READY",
            "config_update": "NOT_UPDATING" if running else "IN_PROGRESS",
        },
        "config": {
            "served_entities": [
                {
                    "name": "agent",
                    "entity_name": "main.agents.stub",
                    "entity_version": "1",
                    "scale_to_zero_enabled": bool(plan.capacity.start_s),
                    "state": {
                        "deployment": "DEPLOYMENT_READY"
                        if running
                        else "DEPLOYMENT_CREATING",
                        "deployment_state_message": ""
                        if running
                        else "Scaling from zero",
                    },
                }
            ]
        },
        "task": plan.task,
        "permission_level": "CAN_QUERY",
    }

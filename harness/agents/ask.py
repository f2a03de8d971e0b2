"""Asking in one line: `ask_agent("How many connections does a pool hold?")`.

The names and arguments of the functions people know; what differs is that a failure
is an exception and never a text that looks like an answer.
"""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from harness.agents.client import AgentClient
from harness.agents.questions import assistant_turn, user_turn
from harness.errors import ConfigError
from harness.settings import load_settings
from harness.settings.redaction import remember

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.agents.answer import Answer
    from harness.agents.async_client import AsyncAgentClient

_clients: dict[tuple[object, ...], AgentClient] = {}
_clients_lock = threading.Lock()


class Conversation:
    """A conversation with an agent, which itself remembers nothing between calls.

    Args:
        client: Whom to ask.
        system_prompt: What the agent is told first, if anything.
        history: Earlier turns: objects with `role` and `content`.
    """

    def __init__(
        self,
        client: AgentClient,
        *,
        system_prompt: str | None = None,
        history: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._client = client
        self._items = turns(system_prompt=system_prompt, history=history)

    @property
    def items(self) -> tuple[Mapping[str, Any], ...]:
        """The turns so far, as `input` items."""
        return tuple(self._items)

    def ask(self, question: str, **options: Any) -> Answer:
        """Ask with everything said before; a failed question is not remembered.

        Raises:
            AgentCallError: If there is no usable answer.
        """
        items = [*self._items, user_turn(question)]
        answer = self._client.ask(items, **options)
        # Without footnotes: their marks would be taken for the user's own words.
        self._items = [*items, assistant_turn(answer.text_without_footnotes)]
        return answer


class AsyncConversation:
    """The same in an event loop; one question at a time.

    Args:
        client: Whom to ask.
        system_prompt: What the agent is told first, if anything.
        history: Earlier turns: objects with `role` and `content`.
    """

    def __init__(
        self,
        client: AsyncAgentClient,
        *,
        system_prompt: str | None = None,
        history: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._client = client
        self._items = turns(system_prompt=system_prompt, history=history)

    @property
    def items(self) -> tuple[Mapping[str, Any], ...]:
        """The turns so far, as `input` items."""
        return tuple(self._items)

    async def ask(self, question: str, **options: Any) -> Answer:
        """Ask with everything said before; a failed question is not remembered.

        Raises:
            AgentCallError: If there is no usable answer.
        """
        items = [*self._items, user_turn(question)]
        answer = await self._client.ask(items, **options)
        self._items = [*items, assistant_turn(answer.text_without_footnotes)]
        return answer


def ask_agent(
    question: str,
    include_footnotes: bool = False,  # noqa: FBT001, FBT002 - as people call it
    token: str | SecretStr | None = None,
    endpoint: str | None = None,
) -> str:
    """Ask the configured agent and return the text of its answer.

    Args:
        question: What to ask.
        include_footnotes: Whether footnote marks and definitions stay in the text.
        token: Used instead of DATABRICKS_TOKEN.
        endpoint: Name of the endpoint instead of DATABRICKS_MODEL, or an address
            instead of DATABRICKS_BASE_URL.

    Raises:
        ConfigError: If the endpoint is not configured.
        AgentCallError: If there is no usable answer.
    """
    answer = _client(token=token, endpoint=endpoint).ask(question, stream=False)
    return text_of(answer, include_footnotes=include_footnotes)


def call_agent(
    message: str,
    system_prompt: str | None = None,
    conversation_history: Sequence[Mapping[str, Any]] | None = None,
    include_footnotes: bool = False,  # noqa: FBT001, FBT002 - as people call it
    *,
    client: AgentClient | None = None,
) -> str:
    """Ask with a system prompt and earlier turns; return the text of the answer.

    Args:
        message: What to ask.
        system_prompt: What the agent is told first.
        conversation_history: Earlier turns: objects with `role` and `content`.
        include_footnotes: Whether footnote marks and definitions stay in the text.
        client: Whom to ask; by default the configured endpoint.

    Raises:
        ConfigError: If the endpoint is not configured.
        AgentCallError: If there is no usable answer.
    """
    answer = _asked(message, system_prompt, conversation_history, client)
    return text_of(answer, include_footnotes=include_footnotes)


def call_agent_with_metadata(
    message: str,
    system_prompt: str | None = None,
    conversation_history: Sequence[Mapping[str, Any]] | None = None,
    include_footnotes: bool = False,  # noqa: FBT001, FBT002 - as people call it
    *,
    client: AgentClient | None = None,
) -> dict[str, Any]:
    """Ask as `call_agent` does; return text and metadata.

    Returns:
        `response_text`, `model`, `response_id`, `request_id`, `trace_id`, `usage`,
        `grounded`, `incomplete`, `citations` (without passages), `attempts`, `answer`.

    Raises:
        ConfigError: If the endpoint is not configured.
        AgentCallError: If there is no usable answer.
    """
    answer = _asked(message, system_prompt, conversation_history, client)
    usage = answer.usage
    return {
        "response_text": text_of(answer, include_footnotes=include_footnotes),
        "model": answer.model,
        "response_id": answer.response_id,
        "request_id": answer.request_id,
        "trace_id": answer.trace_id,
        "usage": None
        if usage is None
        else {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
        },
        "grounded": answer.grounded,
        "incomplete": answer.incomplete,
        "citations": [
            {"document": c.document, "path": c.path, "page": c.page}
            for c in answer.citations
        ],
        "attempts": answer.attempts,
        "answer": answer,
    }


def text_of(answer: Answer, *, include_footnotes: bool) -> str:
    """Return the text of *answer*, with or without footnotes."""
    if include_footnotes:
        return answer.text_with_footnotes
    return answer.text_without_footnotes


def turns(
    *, system_prompt: str | None, history: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return a system prompt and earlier turns as `input` items.

    Raises:
        ConfigError: If a turn has no role or no content.
    """
    items: list[Mapping[str, Any]] = []
    if system_prompt:
        items.append({"role": "system", "content": system_prompt})
    for index, turn in enumerate(history):
        role, content = turn.get("role"), turn.get("content")
        if role not in {"user", "assistant", "system", "developer"} or not content:
            msg = (
                f"turn {index} of the conversation has role {role!r}; it needs the "
                "role user, assistant or system, and content"
            )
            raise ConfigError(msg)
        said = role == "assistant" and isinstance(content, str)
        items.append(assistant_turn(content) if said else dict(turn))
    return items


def _asked(
    message: str,
    system_prompt: str | None,
    history: Sequence[Mapping[str, Any]] | None,
    client: AgentClient | None,
) -> Answer:
    items = turns(system_prompt=system_prompt, history=history or ())
    client = client or _client(token=None, endpoint=None)
    return client.ask([*items, user_turn(message)], stream=False)


def _client(*, token: str | SecretStr | None, endpoint: str | None) -> AgentClient:
    """Return the client of these arguments, opened once and kept open."""
    given: dict[str, object] = {}
    if token is not None:
        text = token.get_secret_value() if isinstance(token, SecretStr) else token
        remember([text])
        given["agent.token"] = text
    if endpoint is not None:
        address = "://" in endpoint
        given["agent.base_url" if address else "agent.model"] = endpoint
    settings = load_settings(given, check=False)
    agent = settings.agent
    key = (
        agent.token,  # as a SecretStr: a traceback may show this
        agent.base_url,
        agent.model,
        settings.databricks.client_id,
        settings.databricks.config_profile,
        f"{agent.timeout_s} {agent.max_retries} {agent.retry_delay_s}",
    )
    with _clients_lock:
        client = _clients.get(key)
        if client is None:
            client = AgentClient.from_settings(agent, databricks=settings.databricks)
            _clients[key] = client
        return client


@atexit.register
def close_clients() -> None:
    """Close the connections that these functions keep open."""
    with _clients_lock:
        for client in _clients.values():
            client.close()
        _clients.clear()

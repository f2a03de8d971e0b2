"""Agent endpoints: client, stub server, token timing.

What users need is importable from here and loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.agents.answer import Answer
    from harness.agents.ask import (
        AsyncConversation,
        Conversation,
        ask_agent,
        call_agent,
        call_agent_with_metadata,
    )
    from harness.agents.async_client import AsyncAgentClient
    from harness.agents.client import AgentClient

__all__ = [
    "AgentClient",
    "Answer",
    "AsyncAgentClient",
    "AsyncConversation",
    "Conversation",
    "ask_agent",
    "call_agent",
    "call_agent_with_metadata",
]

_HOMES = {
    "AgentClient": "client",
    "Answer": "answer",
    "AsyncAgentClient": "async_client",
    "AsyncConversation": "ask",
    "Conversation": "ask",
    "ask_agent": "ask",
    "call_agent": "ask",
    "call_agent_with_metadata": "ask",
}


def __getattr__(name: str) -> Any:
    """Load the module that *name* lives in."""
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{home}"), name)

"""Recording how a real endpoint answers, to be replayed by a stub: shape and timing.

What an endpoint says is somebody's document, and recordings are kept in files. So
only the shape of an answer is recorded: which events came when, how long each text
was, which pages were cited. Words become fillers of the same length.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.agents.client import AgentClient

FORMAT = 1
# Members whose texts are the protocol's own words, never a document's.
_KEPT = frozenset({"type", "object", "role", "status", "finish_reason", "task"})
# Ids are replaced by others, the same for the same, so that events still belong
# together.
_IDS = frozenset(
    {
        "id",
        "item_id",
        "file_id",
        "trace_id",
        "databricks_request_id",
        "call_id",
        "client_request_id",
    }
)
_LETTER = re.compile(r"\w")
_FOOTNOTE = re.compile(r"(\[\^[^\]\s]+\]:?)")
_PAGE = re.compile(r"#page=\d+")
_PLACE = "http://localhost:30003/ajax-api/2.0/fs/files/Volumes/main/recorded"


def record_answers(
    client: AgentClient, questions: Sequence[str]
) -> list[dict[str, Any]]:
    """Ask each question and return how it was answered, without what was said.

    Raises:
        AgentCallError: If a question is not answered.
    """
    return [_record(client, question) for question in questions]


def _record(client: AgentClient, question: str) -> dict[str, Any]:
    events: list[tuple[int, str]] = []

    def note(data: str, at_ns: int) -> None:
        events.append((at_ns, data))

    sent_ns = client.ask(question, on_event=note).timing.sent_ns
    if not events:
        msg = "the endpoint does not stream: there is no timing to record"
        raise ConfigError(msg)
    scrub = Scrubber()
    frames = [
        [round((at_ns - sent_ns) / NS_PER_S, 6), scrub.event(data)]
        for at_ns, data in events
    ]
    return {"format": FORMAT, "frames": frames}


def save_recordings(recordings: Sequence[dict[str, Any]], path: Path) -> None:
    """Write recordings to a file."""
    path.write_text(json.dumps(list(recordings), indent=1) + "\n", encoding="utf-8")


def load_recordings(path: Path) -> tuple[dict[str, Any], ...]:
    """Return the recordings of a file, for `StubPlan.replay`.

    Raises:
        ConfigError: If the file holds none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} holds no recordings: {error}"
        raise ConfigError(msg) from error
    if not isinstance(found, list) or not found:
        msg = f"{path} holds no recordings: it must be a list of them"
        raise ConfigError(msg)
    return tuple(found)


class Scrubber:
    """Takes every word out of an answer's events and leaves their shape."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def event(self, data: str) -> str:
        """Return one event's data without anything said in it."""
        if data == "[DONE]":
            return data
        try:
            parsed = json.loads(data)
        except (ValueError, RecursionError):
            return _filled(data)
        return json.dumps(self._clean(parsed), ensure_ascii=False)

    def _clean(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {
                key if _is_plain(key) else _filled(key): self._clean(inner, key)
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return [self._clean(inner, name) for inner in value]
        if not isinstance(value, str) or name in _KEPT:
            return value
        if name in _IDS:
            return self._ids.setdefault(value, f"id-{len(self._ids)}")
        if name == "url":
            page = _PAGE.search(value)
            return f"{_PLACE}/{_filled('document')}.pdf{page.group() if page else ''}"
        return _filled(value)


def _filled(text: str) -> str:
    """Return *text* with every letter and digit an x; footnote marks stay."""
    parts = _FOOTNOTE.split(text)
    return "".join(
        part if index % 2 else _LETTER.sub("x", part)
        for index, part in enumerate(parts)
    )


def _is_plain(key: str) -> bool:
    return re.fullmatch(r"[a-z_]{1,40}", key) is not None

"""Puts an answer together from stream events, or from one JSON body."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.agents.answer import Answer, Block, Timing, Usage
from harness.agents.errors import (
    AgentBadResponseError,
    AgentServerError,
    AgentStreamError,
    Attempt,
    read_error,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class AnswerBuilder:
    """Assembles an `Answer` from stream events, or from one JSON body.

    Text may come as deltas and once more inside the finished item, or only there;
    the finished item then may hold footnote marks that the deltas have not. The
    deltas win: they are what a user saw.

    Args:
        sent_ns: When the request was sent.
    """

    def __init__(self, *, sent_ns: int) -> None:
        self.finished = False
        self._ended = False
        self.request_id: str | None = None
        self._sent_ns = sent_ns
        self._first_event_ns: int | None = None
        self._first_content_ns: int | None = None
        self._last_ns = sent_ns
        self._token_ns: list[int] = []
        # Output items in order of first appearance, and the same by id or index.
        self._items: list[_Item] = []
        self._by_key: dict[str, _Item] = {}
        self._current: _Item | None = None
        self._usage: Usage | None = None
        self._response_id: str | None = None
        self._trace_id: str | None = None
        self._model: str | None = None
        self._grounded: bool | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(item.text for item in self._items)

    def add_event(self, data: str, at_ns: int) -> None:
        """Take the data of one stream event, read at *at_ns*.

        Raises:
            AgentStreamError: If the event reports a failure.
            AgentBadResponseError: If it is not a JSON object.
        """
        if self._ended:
            return
        if self._first_event_ns is None:
            self._first_event_ns = at_ns
        self._last_ns = at_ns
        if data == "[DONE]":
            self.finished = self._ended = True
            return
        event = self._parse(data)
        kind = _text(event.get("type"))
        # First the one event that comes by the hundred.
        if kind == "response.output_text.delta":
            delta = event.get("delta")
            if isinstance(delta, str) and delta:
                self._item(event).add_delta(_index(event), delta)
                self._content(at_ns)
            return
        self._raise_if_failed(event, kind)
        self._take_metadata(event)
        self._take_event(event, kind, at_ns)

    def add_body(self, body: bytes, at_ns: int) -> None:
        """Take the whole body of a response that is not a stream.

        Raises:
            AgentServerError: If the body reports a failure.
            AgentBadResponseError: If it is not an answer.
        """
        self._first_event_ns = self._last_ns = at_ns
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            msg = f"the response is not a JSON object ({len(body)} bytes)"
            raise AgentBadResponseError(msg)
        if parsed.get("error") or parsed.get("error_code"):
            code, text = read_error(parsed)
            msg = f"the agent reported {code or 'an error'}: {text}"
            raise AgentServerError(msg, error_code=code, request_id=self.request_id)
        if not isinstance(parsed.get("output"), list):
            msg = f"the response has no output, only {sorted(map(str, parsed))[:10]}"
            raise AgentBadResponseError(msg, request_id=self.request_id)
        self._take_response(parsed, at_ns)
        self.finished = True

    def build(self, *, attempts: tuple[Attempt, ...] = ()) -> Answer:
        """Return the answer."""
        blocks = tuple(block for item in self._items for block in item.blocks)
        return Answer(
            text=self.text,
            blocks=blocks,
            timing=Timing(
                sent_ns=self._sent_ns,
                first_event_ns=self._first_event_ns,
                first_content_ns=self._first_content_ns,
                token_ns=tuple(self._token_ns),
                done_ns=self._last_ns,
            ),
            usage=self._usage,
            request_id=self.request_id,
            response_id=self._response_id,
            trace_id=self._trace_id,
            model=self._model,
            grounded=self._grounded,
            attempts=attempts,
        )

    def _parse(self, data: str) -> Mapping[str, Any]:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict):
            return event
        msg = f"a stream event is not a JSON object ({len(data)} characters)"
        raise AgentBadResponseError(msg, partial_text=self.text)

    def _take_event(
        self, event: Mapping[str, Any], kind: str | None, at_ns: int
    ) -> None:
        if kind == "response.output_text.annotation.added":
            self._item(event).annotate(_index(event), event.get("annotation"))
        elif kind == "response.output_text.done":
            if self._item(event).fill(_index(event), _text(event.get("text"))):
                self._content(at_ns)
        elif kind == "response.output_item.done":
            if self._take_item(_mapping(event.get("item")), event):
                self._content(at_ns)
        elif kind in _TERMINAL:
            self._take_response(_mapping(event.get("response")), at_ns)
            self.finished = True

    def _content(self, at_ns: int) -> None:
        if self._first_content_ns is None:
            self._first_content_ns = at_ns
        self._token_ns.append(at_ns)

    def _item(self, event: Mapping[str, Any]) -> _Item:
        """The unfinished item an event belongs to; without an id, the current one."""
        key = event.get("item_id", event.get("output_index"))
        item = self._current if key is None else self._by_key.get(str(key))
        if item is None or item.done:
            item = self._new_item(key)
        self._current = item
        return item

    def _new_item(self, key: object) -> _Item:
        item = _Item()
        self._items.append(item)
        if key is not None:
            self._by_key[str(key)] = item
        return item

    def _take_item(self, item: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
        """Take a finished output item; return whether it brought new text."""
        if item.get("type") != "message":
            return False
        keys = (item.get("id"), event.get("output_index"))
        known = next(
            (self._by_key[str(k)] for k in keys if str(k) in self._by_key), None
        )
        # Deltas whose ids do not match still belong to the item that follows them.
        known = known or self._current or self._new_item(keys[0])
        self._current = None
        return known.finish(_blocks(item))

    def _take_response(self, response: Mapping[str, Any], at_ns: int) -> None:
        self._take_metadata(response)
        usage = response.get("usage")
        if isinstance(usage, dict):
            counts = [
                usage.get(name)
                for name in ("input_tokens", "output_tokens", "total_tokens")
            ]
            self._usage = Usage(
                input_tokens=_count(counts[0]),
                output_tokens=_count(counts[1]),
                total_tokens=_count(counts[2]),
            )
        self._response_id = _text(response.get("id")) or self._response_id
        self._model = _text(response.get("model")) or self._model
        if self._items:
            return  # the output came before; here it is only repeated
        for item in _list(response.get("output")):
            if self._take_item(_mapping(item), {}):
                self._content(at_ns)

    def _take_metadata(self, event: Mapping[str, Any]) -> None:
        output = _mapping(event.get("databricks_output")) or _mapping(
            _mapping(event.get("item")).get("databricks_output")
        )
        trace = _mapping(_mapping(output.get("trace")).get("info"))
        self.request_id = _text(output.get("databricks_request_id")) or self.request_id
        self._trace_id = (
            _text(event.get("trace_id"))
            or _text(trace.get("trace_id"))
            or self._trace_id
        )
        used = _mapping(event.get("custom_outputs")).get("sources_used")
        if isinstance(used, bool):
            self._grounded = used

    def _raise_if_failed(self, event: Mapping[str, Any], kind: str | None) -> None:
        response = _mapping(event.get("response"))
        failed = (
            kind in {"error", "response.failed", "response.error"}
            or (kind is None and ("error" in event or "error_code" in event))
            or bool(response.get("error"))
        )
        if not failed:
            return
        code, text = read_error(response if response.get("error") else event)
        msg = f"the agent reported {code or 'an error'} in its stream: {text}"
        raise AgentStreamError(
            msg,
            error_code=code,
            request_id=self.request_id,
            partial_text=self.text,
        )


_TERMINAL = {"response.completed", "responses.completed", "response.incomplete"}


class _Item:
    """One output item under construction."""

    def __init__(self) -> None:
        self.done = False
        self._deltas: dict[int, list[str]] = {}
        self._annotations: dict[int, list[Mapping[str, Any]]] = {}
        self._finished: tuple[Block, ...] | None = None

    @property
    def text(self) -> str:
        if self._finished is not None:
            return "".join(block.text for block in self._finished)
        return "".join("".join(parts) for _, parts in sorted(self._deltas.items()))

    @property
    def blocks(self) -> tuple[Block, ...]:
        if self._finished is not None:
            return self._finished
        return tuple(
            Block(
                text="".join(parts),
                annotations=tuple(self._annotations.get(index, ())),
            )
            for index, parts in sorted(self._deltas.items())
        )

    def add_delta(self, index: int, delta: str) -> None:
        self._deltas.setdefault(index, []).append(delta)

    def annotate(self, index: int, annotation: object) -> None:
        if isinstance(annotation, dict):
            self._annotations.setdefault(index, []).append(annotation)

    def fill(self, index: int, text: str | None) -> bool:
        """Take the whole text of a block unless its deltas brought it."""
        if index in self._deltas or not text:
            return False
        self._deltas[index] = [text]
        return True

    def finish(self, blocks: tuple[Block, ...]) -> bool:
        """Take the finished item's blocks; return whether they are new text."""
        self.done = True
        text = "".join(block.text for block in blocks)
        if not self._deltas or text == self.text:
            new = not self._deltas and self._finished is None and bool(text)
            self._finished = blocks
            return new
        return False


def _blocks(item: Mapping[str, Any]) -> tuple[Block, ...]:
    content = item.get("content")
    if isinstance(content, str):
        return (Block(text=content),)
    return tuple(
        Block(
            text=text,
            annotations=tuple(
                note
                for note in _list(part.get("annotations"))
                if isinstance(note, dict)
            ),
        )
        for part in map(_mapping, _list(content))
        if part.get("type") in {"output_text", "text"}
        and (text := _text(part.get("text"))) is not None
    )


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("content_index")
    return index if isinstance(index, int) else 0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0

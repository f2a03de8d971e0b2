"""Puts an answer together from stream events, or from one JSON body."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.agents.answer import Answer, Timing, Usage
from harness.agents.answered import ANSWERED
from harness.agents.errors import (
    AgentBadResponseError,
    AgentServerError,
    AgentStreamError,
    Attempt,
    kind_of_code,
    read_error,
)
from harness.agents.items import Item, blocks_of
from harness.agents.json_values import as_count, as_list, as_mapping, as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_TERMINAL = {"response.completed", "responses.completed", "response.incomplete"}


class AnswerBuilder:
    """Assembles an `Answer` from stream events, or from one JSON body.

    Text may come as deltas and once more inside the finished item, or only there;
    the finished item then may hold footnote marks that the deltas have not. The
    deltas win: they are what a user saw. Chat completions are understood too,
    since endpoints of the chat tasks speak them.

    Args:
        sent_ns: When the request was sent.
        origin: Address of the workspace, put where citations name an internal host.
        asked: The endpoint that was asked, as in `AgentCallError`.
    """

    def __init__(self, *, sent_ns: int, origin: str = "", asked: str = "") -> None:
        self.finished = False
        self.request_id: str | None = None
        self._ended = False
        self._has_output = False
        self._sent_ns = sent_ns
        self._origin = origin
        self._asked = asked
        self._first_event_ns: int | None = None
        self._first_content_ns: int | None = None
        self._last_ns = sent_ns
        self._token_ns: list[int] = []
        self._news = ""
        # Output items in order of first appearance, and the same by id or index.
        self._items: list[Item] = []
        self._by_key: dict[str, Item] = {}
        self._current: Item | None = None
        self._usage: Usage | None = None
        self._response_id: str | None = None
        self._trace_id: str | None = None
        self._model: str | None = None
        self._grounded: bool | None = None
        self._incomplete: str | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        items = self._items
        return items[0].text if len(items) == 1 else "".join([i.text for i in items])

    @property
    def has_content(self) -> bool:
        """Whether any text has come; from then on nothing is asked again."""
        return self._first_content_ns is not None

    def add_event(self, data: str, at_ns: int) -> str:
        """Take the data of one stream event, read at *at_ns*; return its new text.

        Raises:
            AgentStreamError: If the event reports a failure.
            AgentBadResponseError: If it is not a JSON object.
        """
        if self._ended:
            return ""
        if self._first_event_ns is None:
            self._first_event_ns = at_ns
        self._last_ns = at_ns
        if data == "[DONE]":
            return self._end()
        event = self._parse(data)
        if event is None:
            return ""
        kind = as_text(event.get("type"))
        self._news = ""
        # First the one event that comes by the hundred.
        if kind == "response.output_text.delta":
            delta = event.get("delta")
            if isinstance(delta, str) and delta:
                self._item(event).add_delta(_index(event), delta)
                self._content(at_ns, delta)
                self._has_output = True
            return self._news
        self._raise_if_failed(event, kind)
        self._take_metadata(event)
        self._take_event(event, kind, at_ns)
        return self._news

    def add_body(self, body: bytes, at_ns: int) -> str:
        """Take the whole body of a response that is not a stream; return its text.

        Raises:
            AgentServerError: If the body reports a failure.
            AgentBadResponseError: If it is not an answer.
        """
        self._first_event_ns = self._last_ns = at_ns
        try:
            # Decoded here: json would first guess the encoding, which is UTF-8.
            parsed = json.loads(body.decode().removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            msg = f"the response is not a JSON object ({len(body)} bytes)"
            raise AgentBadResponseError(msg)
        if parsed.get("error") or parsed.get("error_code"):
            code, text = read_error(parsed)
            msg = f"the agent reported {code or 'an error'}"
            kind = kind_of_code(code) or AgentServerError
            raise kind(
                f"{msg}: {text}" if text else msg,
                error_code=code,
                request_id=self.request_id,
            )
        if isinstance(parsed.get("output"), list):
            self._take_response(parsed, at_ns)
        elif as_list(parsed.get("choices")) or as_list(parsed.get("messages")):
            self._take_chat(parsed, at_ns)
        else:
            msg = f"the response has no output, only {sorted(map(str, parsed))[:10]}"
            raise AgentBadResponseError(msg, request_id=self.request_id)
        self.finished = True
        return self.text

    def build(self, *, attempts: tuple[Attempt, ...] = ()) -> Answer:
        """Return the answer."""
        blocks = tuple(block for item in self._items for block in item.blocks)
        text = self.text
        marked = text
        if any(item.marked for item in self._items):
            marked = "".join([item.marked or item.text for item in self._items])
        ANSWERED.append(
            (
                self._model or self._origin,
                self._sent_ns,
                self._first_content_ns,
                self._last_ns,
                self._asked,
            )
        )
        return Answer(
            text=text,
            marked=marked if marked != text else None,
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
            incomplete=self._incomplete,
            attempts=attempts,
            origin=self._origin,
        )

    def _end(self) -> str:
        """Take the end marker."""
        self.finished = self._ended = True
        if not self._has_output:
            msg = "the stream ended in order, but held no output"
            raise AgentBadResponseError(msg, request_id=self.request_id)
        return ""

    def _parse(self, data: str) -> Mapping[str, Any] | None:
        """Return the event; None where there is nothing to take."""
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict):
            return event
        bare = data.strip()
        if bare == "[DONE]":
            self._end()
            return None
        if not bare:
            return None  # a sign of life, as some proxies send
        msg = f"a stream event is not a JSON object ({len(data)} characters)"
        raise AgentBadResponseError(msg, partial_text=self.text)

    def _take_event(
        self, event: Mapping[str, Any], kind: str | None, at_ns: int
    ) -> None:
        if kind == "response.output_text.annotation.added":
            self._item(event).annotate(_index(event), event.get("annotation"))
            self._has_output = True
        elif kind == "response.output_text.done":
            self._has_output = True
            new = self._item(event).fill(_index(event), as_text(event.get("text")))
            self._content(at_ns, new)
        elif kind == "response.output_item.done":
            self._has_output = True
            new = self._take_item(as_mapping(event.get("item")), event)
            self._content(at_ns, new)
        elif kind in _TERMINAL:
            self._take_response(as_mapping(event.get("response")), at_ns)
            self.finished = self._has_output = True
        elif kind is None and ("choices" in event or "delta" in event):
            self._has_output = True
            self._take_chat(event, at_ns)

    def _content(self, at_ns: int, new: str | None) -> None:
        if not new:
            return
        if self._first_content_ns is None:
            self._first_content_ns = at_ns
        self._token_ns.append(at_ns)
        self._news += new

    def _item(self, event: Mapping[str, Any]) -> Item:
        """The unfinished item an event belongs to; without an id, the current one."""
        key = event.get("item_id", event.get("output_index"))
        item = self._current if key is None else self._by_key.get(str(key))
        if item is None or item.done:
            item = self._new_item(key)
        self._current = item
        return item

    def _new_item(self, key: object) -> Item:
        item = Item()
        self._items.append(item)
        if key is not None:
            self._by_key[str(key)] = item
        return item

    def _take_item(
        self, item: Mapping[str, Any], event: Mapping[str, Any]
    ) -> str | None:
        """Take a finished output item; return its text if that is new."""
        if item.get("type") != "message":
            return None
        keys = (item.get("id"), event.get("output_index"))
        known = next(
            (self._by_key[str(k)] for k in keys if str(k) in self._by_key), None
        )
        # Deltas whose ids do not match still belong to the item that follows them.
        known = known or self._current or self._new_item(keys[0])
        self._current = None
        return known.finish(blocks_of(item))

    def _take_response(self, response: Mapping[str, Any], at_ns: int) -> None:
        self._take_metadata(response)
        self._take_totals(response)
        details = as_mapping(response.get("incomplete_details"))
        if response.get("status") == "incomplete" or details:
            self._incomplete = as_text(details.get("reason")) or "unsaid"
        if self._items:
            return  # the output came before; here it is only repeated
        for item in as_list(response.get("output")):
            self._content(at_ns, self._take_item(as_mapping(item), {}))

    def _take_chat(self, chat: Mapping[str, Any], at_ns: int) -> None:
        """Take a chat completion, one chunk of it, or the older agents' messages."""
        self._take_metadata(chat)
        self._take_totals(chat)
        for message in as_list(chat.get("messages")):
            if as_mapping(message).get("role") == "assistant":
                text = self._new_item(None).finish(blocks_of(as_mapping(message)))
                self._content(at_ns, text)
        if "delta" in chat:
            self._take_chat_delta(as_mapping(chat.get("delta")), at_ns)
        for choice in map(as_mapping, as_list(chat.get("choices"))[:1]):
            message = as_mapping(choice.get("message"))
            if message:
                self._content(at_ns, self._new_item(None).finish(blocks_of(message)))
            self._take_chat_delta(as_mapping(choice.get("delta")), at_ns)
            ended = as_text(choice.get("finish_reason"))
            if ended is not None:
                self.finished = True
                if ended != "stop":
                    self._incomplete = ended

    def _take_chat_delta(self, delta: Mapping[str, Any], at_ns: int) -> None:
        for block in blocks_of(delta):
            if block.text:
                self._item({}).add_delta(0, block.text)
                self._content(at_ns, block.text)

    def _take_totals(self, response: Mapping[str, Any]) -> None:
        usage = response.get("usage")
        if isinstance(usage, dict):
            asked = usage.get("input_tokens", usage.get("prompt_tokens"))
            given = usage.get("output_tokens", usage.get("completion_tokens"))
            self._usage = Usage(
                input_tokens=as_count(asked),
                output_tokens=as_count(given),
                total_tokens=as_count(usage.get("total_tokens")),
            )
        self._response_id = as_text(response.get("id")) or self._response_id
        self._model = as_text(response.get("model")) or self._model

    def _take_metadata(self, event: Mapping[str, Any]) -> None:
        output = as_mapping(event.get("databricks_output")) or as_mapping(
            as_mapping(event.get("item")).get("databricks_output")
        )
        trace = as_mapping(as_mapping(output.get("trace")).get("info"))
        self.request_id = (
            as_text(output.get("databricks_request_id")) or self.request_id
        )
        self._trace_id = (
            as_text(event.get("trace_id"))
            or as_text(trace.get("trace_id"))
            or self._trace_id
        )
        used = as_mapping(event.get("custom_outputs")).get("sources_used")
        if isinstance(used, bool):
            self._grounded = used

    def _raise_if_failed(self, event: Mapping[str, Any], kind: str | None) -> None:
        response = as_mapping(event.get("response"))
        untyped = (
            event.get("error") not in (None, False)
            or event.get("error_code") is not None
        )
        failed = (
            kind in {"error", "response.failed", "response.error"}
            or (kind is None and untyped)
            or bool(response.get("error"))
        )
        if not failed:
            return
        code, text = read_error(response if response.get("error") else event)
        msg = f"the agent reported {code or 'an error'} in its stream"
        if text:
            msg = f"{msg}: {text}"
        raise AgentStreamError(
            msg,
            error_code=code,
            request_id=self.request_id,
            partial_text=self.text,
        )


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("content_index")
    return index if isinstance(index, int) else 0

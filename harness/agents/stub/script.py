"""The answers themselves, in the shapes the platform gives them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from harness.agents.stub.http1 import chunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.agents.stub.plan import StubPlan

# Not all ASCII: a client that cuts characters in two must be found out.
WORDS = ("A", "pool", "holds", "as", "many", "connections", "as", "café", "guests —")
PLACE = "Volumes/main/docs/guides"
PASSAGE = "A%20pool%20holds"
CREATED_AT = 1767225600


class Script(Protocol):
    """How one answer is written; times are told by `offsets_ns`."""

    def offsets_ns(self, request_index: int) -> Sequence[int]:
        """Return when each token is due, from the first one's time on."""
        ...

    def head(self, *, request_id: str, model: str) -> bytes:
        """Return what comes before the first token."""
        ...

    def token(self, index: int, *, request_id: str) -> bytes:
        """Return one token's frame."""
        ...

    def tail(self, *, request_id: str, model: str, tokens: int) -> bytes:
        """Return what comes after the last token, without the end of the body."""
        ...

    def body(self, *, request_id: str, model: str, tokens: int) -> dict[str, Any]:
        """Return the whole answer of a request that is not streamed."""
        ...


class ResponsesScript:
    """Answers of the Responses API; what every answer shares is rendered once.

    Args:
        plan: Size and shape of the answers.
    """

    def __init__(self, plan: StubPlan) -> None:
        self._plan = plan
        self._tokens = tokens_of(plan)
        self._deltas = [
            self._event(
                {
                    "type": "response.output_text.delta",
                    "item_id": "ITEM",
                    "output_index": 0,
                    "content_index": i // plan.block_tokens,
                    "delta": token,
                }
            )
            for i, token in enumerate(self._tokens)
        ]
        # The blocks of every length; only the last one of an answer may be a part.
        self._blocks = [
            self._block(start, start + plan.block_tokens)
            for start in range(0, len(self._tokens), plan.block_tokens)
        ]

    def offsets_ns(self, request_index: int) -> Sequence[int]:
        """Return when each token is due, from the first one's time on."""
        return self._plan.token_offsets_ns(request_index)

    def head(self, *, request_id: str, model: str) -> bytes:
        """Return what comes before the first token."""
        frames = b""
        if self._plan.traced:
            frames += self._event({"trace_id": f"tr-{request_id}"})
        if self._plan.created:
            response = {
                "id": f"resp_{request_id}",
                "model": model,
                "status": "in_progress",
            }
            frames += self._event({"type": "response.created", "response": response})
        return chunk(frames) if frames else b""

    def token(self, index: int, *, request_id: str) -> bytes:
        """Return one token's delta."""
        if not self._plan.deltas:
            return b""
        frame = self._deltas[index].replace(b"ITEM", b"msg_" + request_id.encode(), 1)
        return chunk(frame)

    def tail(self, *, request_id: str, model: str, tokens: int) -> bytes:
        """Return what comes after the last token."""
        item_id = f"msg_{request_id}"
        blocks = self._blocks_of(tokens)
        events: list[dict[str, Any]] = [
            {
                "type": "response.output_text.annotation.added",
                "item_id": item_id,
                "output_index": 0,
                "content_index": index,
                "annotation_index": 0,
                "annotation": block["annotations"][0],
            }
            for index, block in enumerate(blocks)
            if self._plan.deltas
        ]
        events.append(
            {
                "type": "response.output_item.done",
                "output_index": 0,
                "item": self._item(request_id, blocks),
                "databricks_output": self._databricks_output(request_id),
            }
        )
        if self._plan.completed:
            response = self.body(request_id=request_id, model=model, tokens=tokens)
            del response["databricks_output"]
            events.append({"type": "response.completed", "response": response})
        frames = b"".join(self._event(event) for event in events)
        return chunk(frames + b"data: [DONE]\n\n")

    def body(self, *, request_id: str, model: str, tokens: int) -> dict[str, Any]:
        """Return the whole answer of a request that is not streamed."""
        return {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": CREATED_AT,
            "model": model,
            "status": "completed",
            "output": [self._item(request_id, self._blocks_of(tokens))],
            "usage": {
                "input_tokens": 10,
                "output_tokens": tokens,
                "total_tokens": 10 + tokens,
            },
            "custom_outputs": {"sources_used": True},
            "databricks_output": self._databricks_output(request_id),
        }

    def _databricks_output(self, request_id: str) -> dict[str, Any]:
        output: dict[str, Any] = {"databricks_request_id": request_id}
        if self._plan.traced:
            output["trace"] = {"info": {"trace_id": f"tr-{request_id}"}}
        return output

    def _item(self, request_id: str, blocks: list[dict[str, Any]]) -> dict[str, Any]:
        content = blocks
        if self._plan.footnotes:
            content = [
                {**block, "text": f"{block['text'].rstrip()}[^UCVq-{index}] "}
                for index, block in enumerate(blocks, start=1)
            ]
            notes = "\n".join(
                f"[^UCVq-{index}]: {block['annotations'][0]['title']}"
                for index, block in enumerate(blocks, start=1)
            )
            content[-1] = {
                **content[-1],
                "text": f"{content[-1]['text'].rstrip()}\n\n{notes}",
            }
        return {
            "type": "message",
            "id": f"msg_{request_id}",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }

    def _blocks_of(self, tokens: int) -> list[dict[str, Any]]:
        """Return the blocks of an answer of so many tokens."""
        size = self._plan.block_tokens
        blocks = self._blocks[: tokens // size]
        if tokens % size:
            blocks.append(self._block(tokens - tokens % size, tokens))
        return blocks

    def _block(self, start: int, end: int) -> dict[str, Any]:
        number = start // self._plan.block_tokens
        return {
            "type": "output_text",
            "text": "".join(self._tokens[start:end]),
            "annotations": [
                {
                    "type": "url_citation",
                    "title": f"guide-{number}.pdf",
                    # The host is the platform's own, as seen in the field.
                    "url": "http://localhost:30003/ajax-api/2.0/fs/files/"
                    f"{PLACE}/guide-{number}.pdf#page=1:~:text={PASSAGE}",
                }
            ],
        }

    def _event(self, event: dict[str, Any]) -> bytes:
        """One frame; the platform gives its events no name."""
        if self._plan.event_names and "type" in event:
            name = str(event["type"]).encode()
            return b"event: " + name + b"\n" + frame_of(event)
        return frame_of(event)


class ChatScript:
    """Answers of chat completions.

    Args:
        plan: Size of the answers.
    """

    def __init__(self, plan: StubPlan) -> None:
        self._plan = plan
        self._tokens = tokens_of(plan)
        self._chunks = [
            frame_of(
                {
                    "id": "CHAT",
                    "object": "chat.completion.chunk",
                    "created": CREATED_AT,
                    "model": "agent",
                    "choices": [
                        {
                            "index": 0,
                            "delta": {"role": "assistant", "content": token},
                            "finish_reason": None,
                        }
                    ],
                }
            )
            for token in self._tokens
        ]

    def offsets_ns(self, request_index: int) -> Sequence[int]:
        """Return when each token is due, from the first one's time on."""
        return self._plan.token_offsets_ns(request_index)

    def head(self, *, request_id: str, model: str) -> bytes:
        """Return nothing: a chat begins with its first token."""
        del request_id, model
        return b""

    def token(self, index: int, *, request_id: str) -> bytes:
        """Return one token's chunk."""
        named = self._chunks[index].replace(b"CHAT", b"chat_" + request_id.encode(), 1)
        return chunk(named)

    def tail(self, *, request_id: str, model: str, tokens: int) -> bytes:
        """Return what comes after the last token."""
        last = {
            "id": f"chat_{request_id}",
            "object": "chat.completion.chunk",
            "created": CREATED_AT,
            "model": model,
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "usage": self._usage(tokens),
        }
        return chunk(frame_of(last) + b"data: [DONE]\n\n")

    def body(self, *, request_id: str, model: str, tokens: int) -> dict[str, Any]:
        """Return the whole answer of a request that is not streamed."""
        message = {"role": "assistant", "content": "".join(self._tokens[:tokens])}
        return {
            "id": f"chat_{request_id}",
            "object": "chat.completion",
            "created": CREATED_AT,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": self._usage(tokens),
        }

    def _usage(self, tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": 10,
            "completion_tokens": tokens,
            "total_tokens": 10 + tokens,
        }


def tokens_of(plan: StubPlan) -> list[str]:
    """Return the words of the longest answer; a shorter one is its beginning."""
    return [f"{WORDS[i % len(WORDS)]} " for i in range(plan.tokens_max)]


def frame_of(event: dict[str, Any]) -> bytes:
    """Return one event as the platform frames it."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + text.encode() + b"\n\n"

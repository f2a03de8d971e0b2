"""The answers themselves, in the shape a Knowledge Assistant gives them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.agents.stub.http1 import chunk

if TYPE_CHECKING:
    from harness.agents.stub.plan import StubPlan

# Not all ASCII: a client that cuts characters in two must be found out.
WORDS = ("A", "pool", "holds", "as", "many", "connections", "as", "café", "guests —")
PLACE = "Volumes/main/docs/guides"


class Script:
    """Renders one plan's answers; what every answer shares is rendered once.

    Args:
        plan: Size of the answers.
    """

    def __init__(self, plan: StubPlan) -> None:
        self._plan = plan
        self._tokens = [f"{WORDS[i % len(WORDS)]} " for i in range(plan.tokens)]
        self._deltas = [
            _event(
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
        self._blocks = self._render_blocks()

    def head(self, *, request_id: str, model: str) -> bytes:
        """Return what comes before the first token."""
        if not self._plan.created:
            return b""
        response = {"id": f"resp_{request_id}", "model": model, "status": "in_progress"}
        return chunk(_event({"type": "response.created", "response": response}))

    def token(self, index: int, *, request_id: str) -> bytes:
        """Return one token's delta."""
        frame = self._deltas[index].replace(b"ITEM", b"msg_" + request_id.encode(), 1)
        return chunk(frame)

    def tail(self, *, request_id: str, model: str) -> bytes:
        """Return what comes after the last token, the end of the body included."""
        item_id = f"msg_{request_id}"
        events = [
            {
                "type": "response.output_text.annotation.added",
                "item_id": item_id,
                "output_index": 0,
                "content_index": index,
                "annotation_index": 0,
                "annotation": block["annotations"][0],
            }
            for index, block in enumerate(self._blocks)
        ]
        events.append(
            {
                "type": "response.output_item.done",
                "output_index": 0,
                "item": self._item(request_id),
                "databricks_output": {"databricks_request_id": request_id},
            }
        )
        if self._plan.completed:
            response = self.body(request_id=request_id, model=model)
            del response["databricks_output"]
            events.append({"type": "response.completed", "response": response})
        frames = b"".join(_event(event) for event in events)
        return chunk(frames + b"data: [DONE]\n\n") + chunk(b"")

    def body(self, *, request_id: str, model: str) -> dict[str, Any]:
        """Return the whole answer of a request that is not streamed."""
        tokens = self._plan.tokens
        return {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": 1767225600,
            "model": model,
            "status": "completed",
            "output": [self._item(request_id)],
            "usage": {
                "input_tokens": 10,
                "output_tokens": tokens,
                "total_tokens": 10 + tokens,
            },
            "custom_outputs": {"sources_used": True},
            "databricks_output": {"databricks_request_id": request_id},
        }

    def _item(self, request_id: str) -> dict[str, Any]:
        return {
            "type": "message",
            "id": f"msg_{request_id}",
            "role": "assistant",
            "status": "completed",
            "content": self._blocks,
        }

    def _render_blocks(self) -> list[dict[str, Any]]:
        size = self._plan.block_tokens
        return [
            {
                "type": "output_text",
                "text": "".join(self._tokens[start : start + size]),
                "annotations": [
                    {
                        "type": "url_citation",
                        "title": f"guide-{start // size}.pdf",
                        # The host is the platform's own, as seen in the field.
                        "url": "http://localhost:30003/ajax-api/2.0/fs/files/"
                        f"{PLACE}/guide-{start // size}.pdf"
                        "#page=1:~:text=A%20pool%20holds",
                    }
                ],
            }
            for start in range(0, len(self._tokens), size)
        ]


def _event(event: dict[str, Any]) -> bytes:
    """One frame; the platform gives its events no name."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + text.encode() + b"\n\n"

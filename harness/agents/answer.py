"""An agent's answer: its text, blocks, usage and the time of every token."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.agents.citations import Citation, citations_of
from harness.agents.footnotes import remove_footnotes
from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.agents.errors import Attempt


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class Block(NamedTuple):
    """One `output_text` block: an agent cuts its answer into one per cited span.

    A tuple, since an answer holds many and reading one is mostly making them.

    Attributes:
        text: The block's text.
        annotations: Its citations as the endpoint sent them. Their `url` holds
            a passage of a document: not for logs, hence not in the repr.
    """

    text: str
    annotations: tuple[Mapping[str, Any], ...] = ()

    def __repr__(self) -> str:
        return f"Block(text={self.text!r})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """When things happened, in nanoseconds of one monotonic clock.

    Attributes:
        sent_ns: Just before the request was sent (a new connection included).
        first_event_ns: When the first event of any kind was read.
        first_content_ns: When the first event that carries text was read.
        token_ns: When each piece of text was read, one per delta.
        done_ns: When the end of the answer was read.
    """

    sent_ns: int
    first_event_ns: int | None
    first_content_ns: int | None
    token_ns: tuple[int, ...] = field(repr=False)
    done_ns: int

    @property
    def ttft_s(self) -> float | None:
        """Time to first token: request sent until first text; None without text."""
        if self.first_content_ns is None:
            return None
        return (self.first_content_ns - self.sent_ns) / NS_PER_S

    @property
    def end_to_end_s(self) -> float:
        """Request sent until the end of the answer was read."""
        return (self.done_ns - self.sent_ns) / NS_PER_S

    @property
    def itl_s(self) -> tuple[float, ...]:
        """Inter-token latencies: the gaps between successive tokens."""
        return tuple((b - a) / NS_PER_S for a, b in pairwise(self.token_ns))

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None below two tokens."""
        if len(self.token_ns) < 2:  # noqa: PLR2004 - the definition's
            return None
        span_ns = self.token_ns[-1] - self.token_ns[0]
        return span_ns / (len(self.token_ns) - 1) / NS_PER_S


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A whole answer of an agent endpoint.

    Attributes:
        text: The text of all blocks, joined.
        blocks: The blocks it came in.
        timing: When it was sent and received.
        usage: Tokens counted by the endpoint, if it said.
        request_id: The platform's id of the request, if it gave one.
        response_id: The agent's own id of the response, if it gave one.
        trace_id: The MLflow trace, if one was returned.
        model: The model the endpoint says answered.
        grounded: False when the agent says that no source was used; None if unsaid.
        incomplete: Why the agent stopped before its end, such as
            "max_output_tokens"; None for a whole answer.
        attempts: Every request made for it; the last is the one that was answered.
        origin: Address of the workspace that was asked.
        marked: The text with the footnote marks of the finished items, where the
            stream's pieces had none; else None.
    """

    text: str
    blocks: tuple[Block, ...]
    timing: Timing
    usage: Usage | None = None
    request_id: str | None = None
    response_id: str | None = None
    trace_id: str | None = None
    model: str | None = None
    grounded: bool | None = None
    incomplete: str | None = None
    attempts: tuple[Attempt, ...] = ()
    origin: str = ""
    marked: str | None = field(default=None, repr=False)

    @property
    def text_with_footnotes(self) -> str:
        """The text with every footnote mark and definition that came."""
        return self.text if self.marked is None else self.marked

    @property
    def text_without_footnotes(self) -> str:
        """The text without footnote marks and definitions; code is untouched."""
        return remove_footnotes(self.text)

    @property
    def citations(self) -> tuple[Citation, ...]:
        """What the answer cites, in order."""
        return citations_of(self.blocks, origin=self.origin)

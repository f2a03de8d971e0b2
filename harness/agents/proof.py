"""Proof that the tokens were received, and that the stub kept its own time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.agents.errors import StubLateError
from harness.clock import NS_PER_MS
from harness.errors import WorkNotDoneError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.agents.answer import Answer
    from harness.agents.stub.journal import Lateness, Statement
    from harness.agents.stub.plan import StubPlan

# A stub this late (p99) measures the machine rather than the client: 25 % of the
# TTFT it was to give, and never less than a scheduler's ordinary hiccup.
LATENESS_SHARE_MAX = 0.25
LATENESS_FLOOR_MS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """What a checked run may claim.

    Attributes:
        answers_count: Answers checked, each against the stub's own entry.
        tokens_count: Tokens sent and received.
        lateness_ms: The stub's own timing error.
        client_added_ms: Per answer, what client and loopback added to the TTFT:
            the client's TTFT minus the stub's own from request read to first
            token written. Each side reads its own clock only.
    """

    answers_count: int
    tokens_count: int
    lateness_ms: Lateness
    client_added_ms: tuple[float, ...]


def prove_tokens(
    statement: Statement, answers: Sequence[Answer], *, failed_count: int = 0
) -> Proof:
    """Compare every answer with what the stub says it sent.

    Args:
        statement: The stub's account of the run.
        answers: Every answer received in it, streamed, warm-up included.
        failed_count: Calls that failed; the stub may have begun an answer to each.

    Raises:
        WorkNotDoneError: If an answer, or a token of one, is missing on either side.
    """
    entries = {entry.request_id: entry for entry in statement.entries}
    twice = [i for i, n in Counter(a.request_id for a in answers).items() if n > 1]
    if twice:
        msg = f"{len(twice)} answers came twice (first: {twice[0]})"
        raise WorkNotDoneError(msg)
    received = 0
    added_ms = []
    for answer in answers:
        entry = entries.pop(answer.request_id or "", None)
        if entry is None or entry.first_written_ns is None:
            msg = f"answer {answer.request_id} is not in the stub's journal"
            raise WorkNotDoneError(msg)
        tokens = len(answer.timing.token_ns)
        if not entry.finished or tokens != entry.tokens_sent:
            msg = (
                f"answer {answer.request_id}: {tokens} tokens received, "
                f"{entry.tokens_sent} sent, finished={entry.finished}"
            )
            raise WorkNotDoneError(msg)
        received += tokens
        ttft_s = answer.timing.ttft_s
        if ttft_s is not None:
            stub_ms = (entry.first_written_ns - entry.received_ns) / NS_PER_MS
            added_ms.append(ttft_s * 1000 - stub_ms)
    if len(entries) > failed_count:
        msg = (
            f"the stub answered {statement.requests_count} questions, "
            f"{len(answers)} answers were received and {failed_count} calls failed"
        )
        raise WorkNotDoneError(msg)
    if not entries and received != statement.tokens_sent:
        msg = f"{received} tokens received, {statement.tokens_sent} sent"
        raise WorkNotDoneError(msg)
    return Proof(
        answers_count=len(answers),
        tokens_count=received,
        lateness_ms=statement.lateness_ms,
        client_added_ms=tuple(added_ms),
    )


def require_punctual(lateness_ms: Lateness, plan: StubPlan) -> None:
    """Refuse a run in which the stub itself was late.

    Raises:
        StubLateError: If the p99 of written minus due exceeds 25 % of the TTFT.
    """
    limit_ms = max(LATENESS_FLOOR_MS, LATENESS_SHARE_MAX * plan.ttft_s * 1000)
    if lateness_ms.p99 > limit_ms:
        msg = (
            f"invalid run: the stub wrote its tokens late (p99 {lateness_ms.p99:.2f} "
            f"ms, max {lateness_ms.max:.2f} ms; limit {limit_ms:.2f} ms), so the "
            "figures would be those of a busy machine; run again with less beside it"
        )
        raise StubLateError(msg)

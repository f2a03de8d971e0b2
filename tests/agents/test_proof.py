from __future__ import annotations

from dataclasses import replace

import pytest

from harness.agents.answer import Answer, Timing
from harness.agents.errors import StubLateError
from harness.agents.proof import prove_tokens, require_punctual
from harness.agents.stub.journal import Entry, Journal, Lateness
from harness.agents.stub.plan import StubPlan
from harness.errors import WorkNotDoneError

MS = 1_000_000


def run(*token_counts):
    """A stub's journal of answers with these many tokens, and the answers."""
    journal, answers = Journal(), []
    for index, count in enumerate(token_counts):
        entry = Entry(request_id=f"r{index}", received_ns=0, first_due_ns=20 * MS)
        journal.begin(entry)
        for _ in range(count):
            journal.wrote(entry, due_ns=20 * MS, now_ns=21 * MS)
        entry.finished = True
        timing = Timing(
            sent_ns=500 * MS,
            first_event_ns=523 * MS,
            first_content_ns=523 * MS,
            token_ns=(523 * MS,) * count,
            done_ns=600 * MS,
        )
        answers.append(
            Answer(text="x", blocks=(), timing=timing, request_id=f"r{index}")
        )
    return journal, answers


def test_every_token_received_is_proved():
    journal, answers = run(3, 4)
    proof = prove_tokens(journal.statement(), answers)
    assert (proof.answers_count, proof.tokens_count) == (2, 7)
    assert proof.client_added_ms == pytest.approx([2.0, 2.0])
    assert proof.lateness_ms == Lateness(count=7, p50=1.0, p99=1.0, max=1.0)


def test_token_that_was_sent_but_not_received_is_found():
    journal, answers = run(3)
    timing = replace(answers[0].timing, token_ns=(1, 2))
    with pytest.raises(WorkNotDoneError, match="2 tokens received, 3 sent"):
        prove_tokens(journal.statement(), [replace(answers[0], timing=timing)])


def test_answer_the_stub_never_sent_is_found():
    journal, answers = run(3)
    invented = replace(answers[0], request_id="r9")
    with pytest.raises(WorkNotDoneError, match="r9"):
        prove_tokens(journal.statement(), [*answers, invented])


def test_answer_counted_twice_is_found():
    journal, answers = run(3)
    with pytest.raises(WorkNotDoneError, match="twice"):
        prove_tokens(journal.statement(), answers * 2)


def test_answer_that_never_arrived_is_found_unless_its_call_failed():
    journal, answers = run(3, 3)
    with pytest.raises(WorkNotDoneError, match="answered 2 questions, 1 answers"):
        prove_tokens(journal.statement(), answers[:1])
    assert prove_tokens(journal.statement(), answers[:1], failed_count=1)


def test_unfinished_answer_is_found():
    journal, answers = run(3)
    journal.entries[0].finished = False
    with pytest.raises(WorkNotDoneError, match="finished=False"):
        prove_tokens(journal.statement(), answers)


@pytest.mark.parametrize(
    ("ttft_s", "p99_ms", "is_late"),
    [(0.020, 4.9, False), (0.020, 5.1, True), (0.0, 1.9, False), (0.0, 2.1, True)],
)
def test_stub_later_than_a_quarter_of_its_ttft_invalidates_the_run(
    ttft_s, p99_ms, is_late
):
    lateness = Lateness(count=100, p50=0.1, p99=p99_ms, max=p99_ms)
    plan = StubPlan(ttft_s=ttft_s)
    if not is_late:
        require_punctual(lateness, plan)
        return
    with pytest.raises(StubLateError, match="invalid run"):
        require_punctual(lateness, plan)


def test_lateness_is_the_nearest_rank():
    journal, _ = run()
    entry = Entry(request_id="r", received_ns=0, first_due_ns=0)
    for now_ms in range(1, 201):
        journal.wrote(entry, due_ns=0, now_ns=now_ms * MS)
    assert journal.statement().lateness_ms == Lateness(
        count=200, p50=100.0, p99=198.0, max=200.0
    )

"""The figures of many answers, and the promise they are held against."""

from __future__ import annotations

import pytest

from harness.agents.answer import Answer, Timing
from harness.agents.figures import Slo, intended_ttfts_s, stream_figures
from harness.clock import NS_PER_S, ManualClock
from harness.load import constant_arrivals, run_closed_loop, run_open_loop
from harness.load.search import Verdict


def answer(*token_s, sent_s=0.0):
    tokens = tuple(round((sent_s + s) * NS_PER_S) for s in token_s)
    return Answer(
        text="x",
        blocks=(),
        timing=Timing(
            sent_ns=round(sent_s * NS_PER_S),
            first_event_ns=tokens[0],
            first_content_ns=tokens[0],
            token_ns=tokens,
            done_ns=tokens[-1],
        ),
    )


def test_figures_are_those_of_the_definitions():
    figures = stream_figures([answer(1.0, 1.1, 1.4)], wall_s=2.0)
    assert figures["itl_ms_p50"] == pytest.approx(200)
    assert figures["tpot_ms_p50"] == pytest.approx(200)
    assert figures["end_to_end_ms_p99"] == pytest.approx(1400)
    assert figures["tokens_per_s"] == 1.5


def test_one_token_has_no_gap_and_no_tpot():
    assert set(stream_figures([answer(1.0)], wall_s=1.0)) == {
        "end_to_end_ms_p50",
        "end_to_end_ms_p99",
        "tokens_per_s",
    }


PROMISE = Slo(ttft_p95_s=1.0, itl_p99_s=0.2)


def test_good_answer_keeps_its_ttft_and_every_gap():
    assert PROMISE.is_good(1.0, answer(1.0, 1.2))
    assert not PROMISE.is_good(1.01, answer(1.0, 1.2))
    assert not PROMISE.is_good(1.0, answer(1.0, 1.1, 1.4))


def some_run(count=100, *, fails=0):
    left = iter(range(count))

    def operation(_context):
        if next(left) < fails:
            raise ZeroDivisionError

    return run_closed_loop(operation, workers=1, count=count, clock=ManualClock())


@pytest.mark.parametrize(
    ("ttft_s", "gap_s", "verdict"),
    [
        (0.5, 0.1, Verdict.HELD),
        (1.5, 0.1, Verdict.VIOLATED),
        (0.5, 0.3, Verdict.VIOLATED),
    ],
)
def test_run_is_judged_by_both_quantiles(ttft_s, gap_s, verdict):
    answers = [answer(ttft_s, ttft_s + gap_s)] * 100
    finding = PROMISE.judge(some_run(), answers, [ttft_s] * 100)
    assert finding.verdict is verdict
    assert finding.value_ms == pytest.approx(ttft_s * 1000)


def test_failed_questions_break_the_promise():
    answers = [answer(0.5, 0.6)] * 95
    finding = PROMISE.judge(some_run(fails=5), answers, [0.5] * 95)
    assert finding.verdict is Verdict.VIOLATED
    assert "5 of 100" in finding.reason


def test_late_stub_or_few_answers_say_nothing():
    answers = [answer(0.5, 0.6)] * 10
    late = PROMISE.judge(some_run(10), answers, [0.5] * 10, late="the stub was late")
    few = PROMISE.judge(some_run(10), answers, [0.5] * 10)
    assert late.verdict is few.verdict is Verdict.INVALID


def test_ttft_counts_from_when_a_question_should_have_been_asked():
    """One worker, questions each second, answers after three: they queue up."""
    clock = ManualClock()
    given = {0: []}

    def ask(context):
        sent_s = clock.monotonic_ns() / NS_PER_S
        clock.sleep(3.0)
        given[context.worker].append(answer(2.0, 3.0, sent_s=sent_s))

    result = run_open_loop(
        ask,
        constant_arrivals(rate_per_s=1.0, duration_s=3.0),
        workers=1,
        drain_s=60.0,
        clock=clock,
    )
    answers, ttfts_s = intended_ttfts_s(result, given)
    assert len(answers) == 3
    assert ttfts_s == pytest.approx([2.0, 4.0, 6.0])


def test_promise_that_cannot_be_is_refused():
    from harness.errors import ConfigError

    with pytest.raises(ConfigError, match="must be > 0"):
        Slo(ttft_p95_s=0.0, itl_p99_s=1.0)

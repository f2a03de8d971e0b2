"""How long until an agent's first token, by callers at once and by arrival rate?"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from harness.agents.errors import StubLateError
from harness.agents.figures import intended_ttfts_s, stream_figures
from harness.load import poisson_arrivals, run_closed_loop, run_open_loop

QUESTION = "How many connections does a pool hold?"
# A run in which the stub itself was late is thrown away, not published.
RUNS_MAX = 3


@pytest.mark.benchmark(group="agent-ttft")
@pytest.mark.parametrize("concurrency", [1, 4, 16], ids="concurrency={:02d}".format)
def test_time_to_first_token(agent, agent_proof, record_durations, sized, concurrency):
    """Closed loop: each caller streams a whole answer, then asks again."""
    for run in range(1, RUNS_MAX + 1):
        agent_proof.begin()
        result, answers, warmup = ask_repeatedly(
            agent, workers=concurrency, duration_s=sized(full=9.0, smoke=0.9)
        )
        assert not result.failed, result.examples
        try:
            details = agent_proof.check([*warmup, *answers])
            break
        except StubLateError:
            if run == RUNS_MAX:
                raise

    record_durations(
        [a.timing.ttft_s for a in answers],
        measure="ttft",
        wall_s=result.wall_s,
        completed=result.completed,
        failed=result.errors,
        details={
            **details,
            "runs_discarded_count": run - 1,
            **stream_figures(answers, wall_s=result.wall_s),
        },
    )


@pytest.mark.benchmark(group="agent-ttft-open-loop")
@pytest.mark.parametrize("rate_per_s", [20, 80], ids="rate={:03d}".format)
def test_time_to_first_token_by_arrival_rate(
    agent, agent_proof, record_durations, sized, rate_per_s
):
    """Open loop: TTFT from when a question should have been asked.

    The record holds the harness's own error beside it: the stub's lateness, what
    the client added, and the start delay.
    """
    for run in range(1, RUNS_MAX + 1):
        agent_proof.begin()
        result, by_worker, warmup = ask_at_rate(
            agent, rate_per_s=rate_per_s, duration_s=sized(full=8.0, smoke=1.0)
        )
        assert not result.failed, result.examples
        assert not result.dropped
        answers, ttfts_s = intended_ttfts_s(result, by_worker)
        try:
            details = agent_proof.check([*warmup, *answers])
            break
        except StubLateError:
            if run == RUNS_MAX:
                raise

    delays_ms = (result.samples.started_ns - result.samples.intended_ns) / 1e6
    p50, p99 = np.quantile(delays_ms, [0.5, 0.99])
    record_durations(
        ttfts_s,
        measure="ttft",
        wall_s=result.wall_s,
        completed=result.completed,
        failed=result.errors,
        details={
            **details,
            "runs_discarded_count": run - 1,
            "arrival_rate_per_s": rate_per_s,
            "start_delay_ms_p50": round(float(p50), 3),
            "start_delay_ms_p99": round(float(p99), 3),
            **stream_figures(answers, wall_s=result.wall_s),
        },
    )


def ask_repeatedly(agent, *, workers, duration_s):
    """Return (load result, its answers, the answers of the warm-up)."""
    answers, warmup = [], []

    def ask(_context):
        answers.append(agent.ask(QUESTION))

    def connect(_worker):
        # Opens the caller's connection, which is then kept.
        warmup.append(agent.ask(QUESTION))

    result = run_closed_loop(ask, workers=workers, duration_s=duration_s, setup=connect)
    return result, answers, warmup


def ask_at_rate(agent, *, rate_per_s, duration_s, workers=32):
    """Return (load result, its answers by worker, the answers of the warm-up)."""
    by_worker, warmup = defaultdict(list), []

    def ask(context):
        by_worker[context.worker].append(agent.ask(QUESTION))

    def connect(_worker):
        warmup.append(agent.ask(QUESTION))

    schedule = poisson_arrivals(rate_per_s=rate_per_s, duration_s=duration_s, seed=3)
    result = run_open_loop(
        ask, schedule, workers=workers, setup=connect, drain_s=duration_s
    )
    return result, by_worker, warmup

"""How many questions a second can an agent answer within what users are promised?"""

from __future__ import annotations

from collections import defaultdict

import pytest

from harness.agents.errors import StubLateError
from harness.agents.figures import Slo, intended_ttfts_s, stream_figures
from harness.agents.proof import require_punctual
from harness.agents.stub.capacity import Capacity
from harness.load import poisson_arrivals, run_open_loop
from harness.load.search import Finding, Verdict, search_rate

QUESTION = "How many connections does a pool hold?"
SLOTS, TTFT_S, ITL_S, TOKENS = 4, 0.010, 0.002, 20
# What the stub can serve at most: its slots over the time an answer holds one.
SERVED_PER_S = SLOTS / (TTFT_S + ITL_S * (TOKENS - 1))
PROMISE = Slo(ttft_p95_s=0.06, itl_p99_s=0.02)
# A real endpoint answers in seconds, and each answer costs tokens.
ENDPOINT_PROMISE = Slo(ttft_p95_s=3.0, itl_p99_s=0.5)
ENDPOINT_QUESTIONS_MAX = 300
# A p95 needs so many answers.
ANSWERS_MIN = 90


@pytest.mark.benchmark(group="agent-goodput")
def test_highest_rate_within_the_promise(make_agent_target, sized, record_durations):
    """Open loop at rates found by search: bracket, then bisect, invalid ones again.

    The compared value is the TTFT, from the intended start, at the rate that held.
    A real endpoint is asked few questions, slowly, and promises less.
    """
    agent, stub = make_agent_target(
        {
            "ttft_s": TTFT_S,
            "itl_s": ITL_S,
            "tokens": TOKENS,
            "capacity": Capacity(slots=SLOTS, queue=1000),
        }
    )
    promise = PROMISE if stub is not None else ENDPOINT_PROMISE
    probes = {}
    asked = 0

    def probe(rate_per_s):
        nonlocal asked
        if stub is None and asked + 1.3 * ANSWERS_MIN > ENDPOINT_QUESTIONS_MAX:
            said = f"no more than {ENDPOINT_QUESTIONS_MAX} questions are asked"
            return Finding(verdict=Verdict.INVALID, reason=said)
        if stub is not None:
            stub.reset()
        result, by_worker = ask_at_rate(
            agent,
            rate_per_s=rate_per_s,
            duration_s=max(sized(full=3.0, smoke=0.5), ANSWERS_MIN / rate_per_s),
        )
        asked += result.scheduled
        answers, ttfts_s = intended_ttfts_s(result, by_worker)
        late = None
        try:
            if stub is not None:
                require_punctual(stub.statement().lateness_ms, stub.plan)
        except StubLateError as error:
            late = str(error)
        finding = promise.judge(result, answers, ttfts_s, late=late)
        probes[finding.verdict, rate_per_s] = result, answers, ttfts_s
        return finding

    found = search_rate(
        probe,
        **(
            {"start_per_s": 40.0, "min_per_s": 2.0, "max_per_s": 200.0}
            if stub is not None
            else {"start_per_s": 1.0, "min_per_s": 0.25, "max_per_s": 8.0}
        ),
        tolerance=0.1,
        probes_max=sized(full=10, smoke=2),
    )

    held_per_s = found.held_per_s
    # Nobody answers more than the slots allow; a search that says so is broken.
    if stub is not None:
        assert (held_per_s or 0.0) <= SERVED_PER_S * 1.1
    else:
        assert asked <= ENDPOINT_QUESTIONS_MAX
    # Where none held, the last one is shown: it says what stood in the way.
    last = list(probes)[-1]
    result, answers, ttfts_s = probes[
        (Verdict.HELD, held_per_s) if held_per_s is not None else last
    ]
    assert answers
    good = sum(map(promise.is_good, ttfts_s, answers))
    record_durations(
        ttfts_s,
        measure="ttft",
        wall_s=result.wall_s,
        completed=result.completed,
        failed=result.errors,
        details={
            "promise": promise.describe(),
            "questions_count": asked,
            "held_rate_per_s": held_per_s and round(held_per_s, 2),
            "violated_rate_per_s": found.violated_per_s
            and round(found.violated_per_s, 2),
            **({"served_per_s_max": round(SERVED_PER_S, 2)} if stub else {}),
            "goodput_per_s": round(good / result.wall_s, 2),
            "good_share": round(good / result.scheduled, 4),
            "search": found.describe(),
            "probes": found.to_json(),
            **stream_figures(answers, wall_s=result.wall_s),
        },
        # The stub alone serves the lowest rates: it is the machine that does not.
        invalid=None if held_per_s is not None else found.describe(),
    )


def ask_at_rate(agent, *, rate_per_s, duration_s, workers=64):
    """Return (load result, its answers by worker)."""
    by_worker = defaultdict(list)

    def ask(context):
        by_worker[context.worker].append(agent.ask(QUESTION))

    schedule = poisson_arrivals(rate_per_s=rate_per_s, duration_s=duration_s, seed=5)
    result = run_open_loop(ask, schedule, workers=workers, drain_s=30.0, grace_s=30.0)
    return result, by_worker

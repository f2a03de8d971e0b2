"""How long until an agent's first token, when several callers ask at once?"""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from harness.agents.errors import StubLateError
from harness.load import run_closed_loop

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

    itl_ms = np.fromiter(chain.from_iterable(a.timing.itl_s for a in answers), float)
    itl_ms *= 1000
    tokens_count = sum(len(a.timing.token_ns) for a in answers)
    record_durations(
        [a.timing.ttft_s for a in answers],
        measure="ttft",
        wall_s=result.wall_s,
        completed=result.completed,
        failed=result.errors,
        details={
            **details,
            "runs_discarded_count": run - 1,
            "tokens_per_s": round(tokens_count / result.wall_s, 1),
            "itl_ms_p50": round(float(np.quantile(itl_ms, 0.5)), 3),
            "itl_ms_p99": round(float(np.quantile(itl_ms, 0.99)), 3),
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

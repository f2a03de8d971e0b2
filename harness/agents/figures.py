"""The figures of many answers: TTFT, ITL, TPOT, end-to-end, tokens per second, SLO."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.load.quantiles import samples_needed
from harness.load.search import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.agents.answer import Answer
    from harness.load import LoadResult

NEAR_SHARE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Slo:
    """What users are promised.

    Attributes:
        ttft_p95_s: Most the p95 of the TTFT may be, in seconds, counted from the
            intended start of the question.
        itl_p99_s: Most the p99 of all gaps between tokens may be, in seconds.
        errors_share: Most of the questions that may fail, 0 to 1.
    """

    ttft_p95_s: float
    itl_p99_s: float
    errors_share: float = 0.001

    def __post_init__(self) -> None:
        if self.ttft_p95_s <= 0 or self.itl_p99_s <= 0:
            msg = (
                "ttft_p95_s and itl_p99_s must be > 0, got "
                f"{self.ttft_p95_s} and {self.itl_p99_s}"
            )
            raise ConfigError(msg)

    def describe(self) -> str:
        """Return one line for a report."""
        return (
            f"TTFT p95 <= {self.ttft_p95_s * 1000:g} ms, ITL p99 <= "
            f"{self.itl_p99_s * 1000:g} ms, errors <= {self.errors_share:.3g}"
        )

    def is_good(self, ttft_s: float, answer: Answer) -> bool:
        """Whether one answer kept the promise: its TTFT, and its slowest gap."""
        return ttft_s <= self.ttft_p95_s and all(
            gap_s <= self.itl_p99_s for gap_s in answer.timing.itl_s
        )

    def judge(
        self,
        result: LoadResult,
        answers: Sequence[Answer],
        ttfts_s: Sequence[float],
        *,
        late: str | None = None,
    ) -> Finding:
        """Say whether a run kept the promise, for `harness.load.search.search_rate`.

        Args:
            result: The run.
            answers: Its answers.
            ttfts_s: Their TTFTs from the intended start, in the same order.
            late: Why the run is none to tell from, if it is not.
        """
        import numpy as np

        if late is not None:
            return Finding(verdict=Verdict.INVALID, reason=late)
        lost = result.failed + result.dropped + result.unfinished
        if not answers or lost > self.errors_share * result.scheduled:
            return Finding(
                verdict=Verdict.VIOLATED,
                reason=f"{lost} of {result.scheduled} questions were not answered",
            )
        if len(answers) < samples_needed(0.95):
            return Finding(
                verdict=Verdict.INVALID,
                reason=f"{len(answers)} answers are too few for a p95",
            )
        ttft_s = float(np.quantile(ttfts_s, 0.95))
        itl_s = float(np.quantile(gaps_s(answers) or [0.0], 0.99))
        worst = max(ttft_s / self.ttft_p95_s, itl_s / self.itl_p99_s)
        return Finding(
            verdict=Verdict.HELD if worst <= 1 else Verdict.VIOLATED,
            reason=f"TTFT p95 {ttft_s * 1000:.1f} ms, ITL p99 {itl_s * 1000:.1f} ms",
            near=abs(worst - 1) < NEAR_SHARE,
            value_ms=ttft_s * 1000,
        )


def stream_figures(answers: Sequence[Answer], *, wall_s: float) -> dict[str, float]:
    """Return ITL, TPOT, end-to-end and tokens per second, for a record's details.

    Args:
        answers: Streamed answers.
        wall_s: Length of the run, in seconds.
    """
    import numpy as np

    figures: dict[str, float] = {}
    tpots_s = [t for a in answers if (t := a.timing.tpot_s) is not None]
    series = {
        "itl": gaps_s(answers),
        "tpot": tpots_s,
        "end_to_end": [answer.timing.end_to_end_s for answer in answers],
    }
    for name, values_s in series.items():
        if values_s:
            p50, p99 = np.quantile(values_s, [0.5, 0.99]) * 1000
            figures[f"{name}_ms_p50"] = round(float(p50), 3)
            figures[f"{name}_ms_p99"] = round(float(p99), 3)
    tokens_count = sum(len(answer.timing.token_ns) for answer in answers)
    figures["tokens_per_s"] = round(tokens_count / wall_s, 1)
    return figures


def gaps_s(answers: Sequence[Answer]) -> list[float]:
    """Return every gap between two tokens of the same answer, in seconds."""
    return list(chain.from_iterable(answer.timing.itl_s for answer in answers))


def intended_ttfts_s(
    result: LoadResult, answers_by_worker: dict[int, list[Answer]]
) -> tuple[list[Answer], list[float]]:
    """Return the measured answers and their TTFTs from the intended start.

    A question that had to wait for a free caller waited for the user as well: its
    start delay is part of what the user sees.

    Args:
        result: An open-loop run whose failed operations gave no answer.
        answers_by_worker: Each worker's answers in the order it got them; no warm-up.
    """
    import numpy as np

    samples = result.samples.where(result.samples.succeeded)
    answers: list[Answer] = []
    ttfts_s: list[float] = []
    for worker, given in answers_by_worker.items():
        mine = samples.where(samples.worker == worker)
        order = np.argsort(mine.started_ns, kind="stable")
        delays_s = (mine.started_ns - mine.intended_ns)[order] / 1e9
        for answer, delay_s in zip(given, delays_s.tolist(), strict=True):
            if answer.timing.ttft_s is not None:
                answers.append(answer)
                ttfts_s.append(delay_s + answer.timing.ttft_s)
    return answers, ttfts_s

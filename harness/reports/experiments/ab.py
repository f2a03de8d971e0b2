"""A/B: two variants in pairs of fresh processes, in an order left to chance."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from harness.reports.experiments.running import Launch, run_each, sign_pair
from harness.reports.verdict.judge import LEVEL, compare_runs
from harness.reports.verdict.reading import read_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.reports.experiments.building import Built
    from harness.reports.experiments.schedule import Pair, Schedule
    from harness.reports.verdict.model import Comparison
    from harness.reports.verdict.reading import Run
    from harness.reports.verdict.thresholds import ThresholdRule


class Progress(Protocol):
    """Is told how far an experiment is."""

    def started(self, pair: Pair) -> None:
        """The runs of a pair begin."""

    def estimated(self, pairs_done: int, change: float | None) -> None:
        """A pair is complete; *change* is the median over the cases so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """What is run, and where its reports go.

    Attributes:
        name: Unique id.
        folder: Reports go to `A/` and `B/` in it.
        sides: Both variants, built.
        cases: What pytest is asked to run.
        options: Further arguments for pytest, the same for both sides.
        schedule: Declared before the first run.
        by_case: Whether the two runs of a pair take turns case by case; if not, one
            whole run comes after the other.
    """

    name: str
    folder: Path
    sides: tuple[Built, Built]
    cases: tuple[str, ...]
    options: tuple[str, ...]
    schedule: Schedule
    by_case: bool = True


def run_experiment(
    experiment: Experiment,
    *,
    rules: tuple[ThresholdRule, ...],
    progress: Progress,
    level: float = LEVEL,
    guard: bool = True,
) -> Comparison:
    """Run all pairs that the schedule asks for and return the verdict.

    Args:
        experiment: What to run.
        rules: Thresholds that a setting asks for.
        progress: Told how far it is; it sees estimates and no verdicts, so that
            nobody is tempted to stop at a pleasant one.
        level: Level over all looks.
        guard: See `compare_runs`.

    Raises:
        ReportError: If a run leaves no report.
    """
    _declare(experiment)
    looks = experiment.schedule.looks
    runs: dict[str, list[Run]] = {"A": [], "B": []}
    for pair in experiment.schedule.pairs:
        progress.started(pair)
        for side, run in zip("AB", _run_pair(experiment, pair), strict=True):
            runs[side].append(run)
        done = pair.index + 1
        progress.estimated(done, change_so_far(runs["A"], runs["B"]))
        if done in looks:
            comparison = compare_runs(
                runs["A"],
                runs["B"],
                rules=rules,
                level=level / len(looks),
                guard=guard,
            )
            settled = comparison.judged and not comparison.with_status("inconclusive")
            if settled or done == looks[-1]:
                return comparison
    msg = "a schedule ends with a look"
    raise AssertionError(msg)


def _run_pair(experiment: Experiment, pair: Pair) -> list[Run]:
    launches = [
        Launch(
            side=built,
            target=experiment.folder / side / f"{pair.index + 1:04d}_{side}.json",
            options=experiment.options,
        )
        for side, built in zip("AB", experiment.sides, strict=True)
    ]

    def order(case: int, _count: int) -> list[int]:
        """Every other case the other way round: no side pays for all first times."""
        first_is_a = (pair.order == "AB") == (case % 2 == 0)
        return [0, 1] if first_is_a else [1, 0]

    run_each(
        launches,
        experiment.cases,
        hash_seed=pair.hash_seed,
        order=order,
        by_case=experiment.by_case,
    )
    for side, launch in zip("AB", launches, strict=True):
        sign_pair(
            launch.target,
            experiment=experiment.name,
            pair=pair,
            side=side,
            variant=launch.side.variant.text,
        )
    return [read_run(launch.target) for launch in launches]


def change_so_far(old: Sequence[Run], new: Sequence[Run]) -> float | None:
    """Return the median relative change over cases and pairs: an estimate, no verdict.

    Each case counts by its first metric.
    """
    ratios = []
    for before, after in zip(old, new, strict=False):
        for name in before.cases.keys() & after.cases.keys():
            a, b = before.cases[name].values, after.cases[name].values
            first = next((key for key in a if key in b), None)
            if first is not None:
                ratios.append(b[first] / a[first])
    return float(np.median(ratios)) - 1 if ratios else None


def _declare(experiment: Experiment) -> None:
    """Put the plan on disk before the first run: it cannot be bent afterwards."""
    experiment.folder.mkdir(parents=True, exist_ok=True)
    document = {
        "schema_version": 1,
        "experiment": experiment.name,
        "sides": {
            name: {
                "variant": side.variant.text,
                "kind": side.variant.kind,
                "commit": side.commit,
            }
            for name, side in zip("AB", experiment.sides, strict=True)
        },
        "cases": experiment.cases,
        "options": experiment.options,
        "rule": experiment.schedule.rule,
        "by_case": experiment.by_case,
        **asdict(experiment.schedule),
    }
    path = experiment.folder / "plan.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf8")

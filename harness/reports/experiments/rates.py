"""How often the gate cries wolf, and how often it sees the wolf: by drawing anew."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.reports.record import PairBlock
from harness.reports.verdict.judge import compare_runs, would_be
from harness.reports.verdict.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.reports.verdict.model import Comparison
    from harness.reports.verdict.reading import Run
    from harness.reports.verdict.thresholds import ThresholdRule

# A gate that cries wolf more often is deleted by its users.
FALSE_ALARMS_MAX = 0.01
# Thresholds to choose a proposal from.
_GRID = (0.02, 0.03, 0.05, 0.075, 0.10, 0.15, 0.20, 0.30, 0.50)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Runs made one right after the other, in an order left to chance.

    Attributes:
        same: Two runs of the same code.
        slowed: Slowdown -> a run with it.
    """

    same: tuple[Run, Run]
    slowed: Mapping[float, Run]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseRates:
    """What the gate does to one case on this machine.

    Attributes:
        fullname: Its node id.
        metric: The metric that decides.
        noise: Standard deviation of the log ratio of two runs of the same code.
        false_alarms: Share of comparisons of the same code called regressed.
        power: Slowdown -> share of comparisons that called it regressed.
        proposed: Metric -> threshold to set, where the present one cries wolf too
            often.
    """

    fullname: str
    metric: str
    noise: float
    false_alarms: float
    power: Mapping[float, float]
    proposed: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class GateRates:
    """The gate as a whole.

    Attributes:
        pairs: Pairs of a comparison.
        blocks: Blocks that were measured.
        draws: Comparisons drawn for each figure.
        cases: The cases.
        taken_back: Share of the comparisons with a slowdown in which the regression
            was seen, and the environment guard took the verdict back.
    """

    pairs: int
    blocks: int
    draws: int
    cases: tuple[CaseRates, ...]
    taken_back: float = 0.0

    @property
    def false_alarms(self) -> float:
        """Share of cases called regressed where nothing had changed."""
        return float(np.mean([case.false_alarms for case in self.cases]))

    def power(self, slowdown: float) -> float:
        """Share of cases called regressed that were *slowdown* slower."""
        return float(np.mean([case.power[slowdown] for case in self.cases]))


def gate_rates(
    blocks: Sequence[Block],
    *,
    pairs: int,
    draws: int,
    rules: tuple[ThresholdRule, ...],
    guard: bool,
    seed: int,
    alarms_max: float = FALSE_ALARMS_MAX,
) -> GateRates:
    """Draw comparisons from the blocks and count what the gate says.

    Each draw takes *pairs* of the blocks, swaps the two runs of the same code or not
    by a coin, and asks the very gate. For power one case at a time takes its run from
    the slowed ones while all others stay the same: the hardest change to find.

    Args:
        blocks: What was measured; at least *pairs* of them.
        pairs: Pairs of a comparison.
        draws: Comparisons for each figure.
        rules: Thresholds that a setting asks for.
        guard: As in `compare_runs`.
        seed: Makes the drawing repeatable.
        alarms_max: Share of false alarms above which thresholds are proposed.
    """
    rng = np.random.default_rng(seed)
    names = sorted(set.intersection(*(_cases_of(block) for block in blocks)))
    alarms = dict.fromkeys(names, 0)
    for _ in range(draws):
        comparison = _compare(_draw(blocks, pairs, rng), rules=rules, guard=guard)
        for case in comparison.with_status("regressed"):
            alarms[case.fullname] += case.fullname in alarms
    found: dict[str, dict[float, float]] = {name: {} for name in names}
    taken_back, said = 0, would_be("regressed")
    for name in names:
        for slowdown in blocks[0].slowed:
            seen = 0
            for _ in range(draws):
                drawn = _draw(blocks, pairs, rng, slowed=(name, slowdown))
                comparison = _compare(drawn, rules=rules, guard=guard)
                case = next(c for c in comparison.cases if c.fullname == name)
                seen += case.status == "regressed"
                taken_back += any(v.reason.startswith(said) for v in case.metrics)
            found[name][slowdown] = seen / draws
    cases = []
    for name in names:
        metric, noise = _noise(name, blocks)
        rate = alarms[name] / draws
        proposed = {}
        if rate > alarms_max:
            proposed = _proposed(
                name, blocks, pairs=pairs, draws=draws, alarms_max=alarms_max, rng=rng
            )
        cases.append(
            CaseRates(
                fullname=name,
                metric=metric,
                noise=noise,
                false_alarms=rate,
                power=found[name],
                proposed=proposed,
            )
        )
    asked = draws * len(names) * len(blocks[0].slowed)
    return GateRates(
        pairs=pairs,
        blocks=len(blocks),
        draws=draws,
        cases=tuple(cases),
        taken_back=taken_back / max(1, asked),
    )


def _cases_of(block: Block) -> set[str]:
    runs = (*block.same, *block.slowed.values())
    return set.intersection(*(set(run.cases) for run in runs))


def _draw(
    blocks: Sequence[Block],
    pairs: int,
    rng: np.random.Generator,
    *,
    slowed: tuple[str, float] | None = None,
) -> tuple[list[Run], list[Run]]:
    baseline, contender = [], []
    chosen = rng.choice(len(blocks), size=pairs, replace=False)
    for index, number in enumerate(chosen):
        first, second = blocks[number].same
        if rng.random() < 0.5:  # noqa: PLR2004  # a coin
            first, second = second, first
        if slowed is not None:
            name, slowdown = slowed
            slow = blocks[number].slowed[slowdown].cases[name]
            second = replace(second, cases={**second.cases, name: slow})
        baseline.append(_placed(first, index, "A"))
        contender.append(_placed(second, index, "B"))
    return baseline, contender


def _placed(run: Run, index: int, side: Literal["A", "B"]) -> Run:
    """Give the run a place in the drawn experiment."""
    pair = PairBlock(
        experiment="drawn", index=index, side=side, first=side == "A", variant=""
    )
    block = run.block.model_copy(update={"pair": pair}) if run.block else None
    return replace(run, block=block, digest=f"{run.digest}{side}{index}")


def _compare(
    drawn: tuple[list[Run], list[Run]],
    *,
    rules: tuple[ThresholdRule, ...],
    guard: bool,
) -> Comparison:
    return compare_runs(*drawn, rules=rules, guard=guard)


def _noise(name: str, blocks: Sequence[Block]) -> tuple[str, float]:
    """Return the deciding metric and the spread of its log ratio, same code."""
    metric = next(iter(blocks[0].same[0].cases[name].values))
    logs = [
        math.log(second.cases[name].values[metric] / first.cases[name].values[metric])
        for first, second in (block.same for block in blocks)
        if metric in first.cases[name].values and metric in second.cases[name].values
    ]
    # About 0: two runs of the same code differ by nothing on average.
    return metric, math.sqrt(float(np.mean(np.square(logs)))) if logs else 0.0


def _proposed(
    name: str,
    blocks: Sequence[Block],
    *,
    pairs: int,
    draws: int,
    alarms_max: float,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return the least thresholds of the grid that cry wolf rarely enough."""
    from harness.reports.verdict.thresholds import ThresholdRule

    alarms: dict[str, dict[float, int]] = {}
    for threshold in _GRID:
        rules = tuple(ThresholdRule(None, metric, threshold) for metric in METRICS)
        for _ in range(draws):
            comparison = _compare(_draw(blocks, pairs, rng), rules=rules, guard=False)
            case = next(c for c in comparison.cases if c.fullname == name)
            for verdict in case.metrics:
                counts = alarms.setdefault(verdict.metric, dict.fromkeys(_GRID, 0))
                counts[threshold] += verdict.status == "regressed"
    proposed = {}
    for metric, counts in alarms.items():
        rare = [t for t in _GRID if counts[t] <= alarms_max * draws]
        if rare:
            proposed[metric] = rare[0]
    return proposed

"""Calibrate: the gate tried on this machine, with the cases it will guard."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import ConfigError
from harness.reports.experiments.known_rates import RATES_FILE
from harness.reports.experiments.rates import FALSE_ALARMS_MAX, Block, GateRates
from harness.reports.experiments.running import Launch, run_each
from harness.reports.verdict.reading import read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from harness.reports.experiments.building import Built


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What is run for a calibration.

    Attributes:
        side: The code, as it is.
        folder: Where the reports go.
        cases: What pytest is asked to run.
        options: Further arguments for pytest.
        blocks: Blocks to measure.
        slowdowns: Shares by which a run is made slower, ascending.
        seed: Of the orders.
        by_case: As in `harness.reports.experiments.ab.Experiment`.
    """

    side: Built
    folder: Path
    cases: tuple[str, ...]
    options: tuple[str, ...]
    blocks: int
    slowdowns: tuple[float, ...]
    seed: int
    by_case: bool = True


def parse_slowdowns(text: str) -> tuple[float, ...]:
    """Read `5%,10%` or `0.05,0.1`.

    Raises:
        ConfigError: If one is no share above 0.
    """
    found = []
    for part in text.split(","):
        word = part.strip()
        try:
            share = float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
        except ValueError:
            share = 0.0
        if not 0 < share <= 10:  # noqa: PLR2004  # ten times as long is no trial
            msg = f"--slowdowns: {word!r} must be a share above 0, such as 5% or 0.05"
            raise ConfigError(msg)
        found.append(share)
    return tuple(sorted(set(found)))


def measure_blocks(trial: Trial, *, say: Callable[[int], None]) -> list[Block]:
    """Run every block: twice as it is, once per slowdown, in an order left to chance.

    Runs without a slowdown carry the injection too, with nothing to add, so that its
    own cost is on both sides.

    Args:
        trial: What to run.
        say: Told the number of the block that begins.

    Raises:
        ReportError: If a run leaves no report.
    """
    rng = np.random.default_rng(trial.seed)
    kinds = ["same-1", "same-2", *(f"slow-{s:g}" for s in trial.slowdowns)]
    shares = [0.0, 0.0, *trial.slowdowns]
    blocks = []
    for number in range(trial.blocks):
        hash_seed = int(rng.integers(1, 2**32 - 1))
        say(number)
        launches = [
            Launch(
                side=trial.side,
                target=trial.folder / kind / f"{number + 1:04d}_run.json",
                options=(*trial.options, f"--slow-down={share:g}"),
            )
            for kind, share in zip(kinds, shares, strict=True)
        ]
        run_each(
            launches,
            trial.cases,
            hash_seed=hash_seed,
            order=lambda _case, count: [int(i) for i in rng.permutation(count)],
            by_case=trial.by_case,
        )
        runs = {
            kind: read_run(launch.target)
            for kind, launch in zip(kinds, launches, strict=True)
        }
        blocks.append(_block(runs, trial.slowdowns))
    return blocks


def read_blocks(folder: Path, slowdowns: Sequence[float]) -> list[Block]:
    """Read the blocks of an earlier calibration; those cut short are left out.

    Raises:
        ReportError: If a report is damaged.
    """
    blocks = []
    kinds = ["same-1", "same-2", *(f"slow-{s:g}" for s in slowdowns)]
    for first in sorted((folder / "same-1").glob("*.json")):
        paths = {kind: folder / kind / first.name for kind in kinds}
        if all(path.exists() for path in paths.values()):
            runs = {kind: read_run(path) for kind, path in paths.items()}
            blocks.append(_block(runs, slowdowns))
    return blocks


def _block(runs: dict[str, Any], slowdowns: Sequence[float]) -> Block:
    return Block(
        same=(runs["same-1"], runs["same-2"]),
        slowed={share: runs[f"slow-{share:g}"] for share in slowdowns},
    )


def write_calibration(
    rates: GateRates,
    *,
    folder: Path,
    machine_info: dict[str, Any],
    measured_at: datetime,
    cases: Sequence[str],
) -> Path:
    """Keep the rates beside the runs they were reckoned from."""
    document = {
        "schema_version": 1,
        "measured_at": measured_at.isoformat(),
        "machine_info": machine_info,
        "selection": list(cases),
        "false_alarms": rates.false_alarms,
        "power": {f"{share:g}": rates.power(share) for share in rates.cases[0].power},
        **asdict(rates),
    }
    path = folder / RATES_FILE
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf8")
    return path


def rates_lines(rates: GateRates) -> list[str]:
    """Return the calibration as text."""
    slowdowns = list(rates.cases[0].power)
    heads = "".join(f"{f'+{share:.0%}':>8}" for share in slowdowns)
    lines = [f"{'noise':>8}{'alarms':>9}{heads}  metric      case"]
    for case in rates.cases:
        seen = "".join(f"{case.power[share]:>8.0%}" for share in slowdowns)
        lines.append(
            f"{case.noise:>8.1%}{case.false_alarms:>9.2%}{seen}  "
            f"{case.metric:<11} {case.fullname}"
        )
    seen = ", ".join(f"{rates.power(share):.0%} at +{share:.0%}" for share in slowdowns)
    lines += [
        "",
        (
            f"{rates.pairs} pairs: false alarms in {rates.false_alarms:.2%} of cases; "
            f"regressions seen: {seen}"
        ),
        (
            f"drawn from {rates.blocks} blocks, {rates.draws} comparisons a figure, "
            f"worth {rates.blocks / rates.pairs:.1f} independent comparisons a case"
        ),
    ]
    if rates.taken_back:
        lines.append(
            f"{rates.taken_back:.0%} more were seen, and the environment guard took "
            "them back: others kept the machine busy "
            "(LAKEGAUGE_ENVIRONMENT_GUARD=note only notes it)"
        )
    proposed = [
        f"{case.fullname}:{metric}={threshold:.1%}"
        for case in rates.cases
        for metric, threshold in case.proposed.items()
    ]
    if proposed:
        lines += [
            f"above {FALSE_ALARMS_MAX:.0%} false alarms; proposed:",
            f"LAKEGAUGE_THRESHOLDS='{', '.join(proposed)}'",
        ]
    return lines

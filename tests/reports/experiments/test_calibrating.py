"""The gate's own rates: right on blocks whose truth is known, and measured for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import ConfigError
from harness.reports.experiments.calibrating import parse_slowdowns, rates_lines
from harness.reports.experiments.known_rates import rates_note
from harness.reports.experiments.rates import Block, gate_rates
from harness.reports.record import RunBlock
from harness.reports.verdict.metrics import CaseRun
from harness.reports.verdict.model import RunSummary
from harness.reports.verdict.reading import Run
from harness.reports.verdict.thresholds import parse_thresholds

COMMAND = Path(sys.executable).with_name("lakegauge")


def blocks_of(rng, *, noise, tilt=1.0, count=24):
    """Blocks of two cases; *tilt* makes the second of two equal runs slower."""

    def run(slowdown, number, tilted=1.0):
        cases = {}
        for name in ("a", "b"):
            value = np.exp(rng.normal(0, noise)) * (1 + slowdown) * tilted
            cases[name] = CaseRun(
                fullname=name,
                name=name,
                group="g",
                kind="micro",
                measure="round_time",
                values={"min": value, "p50": value * 1.1},
                operations=100,
            )
        return Run(
            about=RunSummary(label=f"{number}", path=None, started_at=None),
            machine_info={},
            block=RunBlock(complete=True, smoke=False),
            cases=cases,
            digest=f"{number}-{slowdown}-{rng.random()}",
        )

    return [
        Block(
            same=(run(0.0, i), run(0.0, i, tilt)),
            slowed={0.05: run(0.05, i), 0.3: run(0.3, i)},
        )
        for i in range(count)
    ]


def rates_of(blocks, draws=60):
    return gate_rates(blocks, pairs=12, draws=draws, rules=(), guard=True, seed=1)


def test_a_calm_machine_sees_every_change_and_cries_no_wolf():
    rates = rates_of(blocks_of(np.random.default_rng(1), noise=0.005))
    assert rates.false_alarms == 0
    assert rates.power(0.05) == rates.power(0.3) == 1.0
    assert rates.cases[0].noise == pytest.approx(0.007, rel=0.4)


def test_a_noisy_machine_sees_large_changes_only():
    rates = rates_of(blocks_of(np.random.default_rng(2), noise=0.08))
    assert rates.false_alarms <= 0.02
    assert rates.power(0.05) < 0.4
    assert rates.power(0.3) > 0.9


def test_runs_that_differ_by_themselves_are_not_counted_as_power_of_the_gate():
    """Which of two equal runs is the contender is a coin: a bias becomes noise."""
    rates = rates_of(blocks_of(np.random.default_rng(3), noise=0.005, tilt=1.2))
    assert rates.false_alarms < 0.05


def test_thresholds_are_proposed_where_the_gate_cries_wolf():
    """A gate with no threshold at all, on a machine that favours one run of two."""
    blocks = blocks_of(np.random.default_rng(4), noise=0.02)
    strict = parse_thresholds("min=0,p50=0", source="test")
    rates = gate_rates(
        blocks, pairs=12, draws=250, rules=strict, guard=True, seed=1, alarms_max=0.0
    )
    assert rates.false_alarms > 0
    proposed = {m: t for case in rates.cases for m, t in case.proposed.items()}
    assert proposed
    assert all(threshold >= 0.02 for threshold in proposed.values())
    lines = "\n".join(rates_lines(rates))
    assert "LAKEGAUGE_THRESHOLDS='" in lines
    parse_thresholds(lines.rpartition("='")[2].rstrip("'"), source="proposal")


def test_what_the_guard_takes_back_is_counted_apart_from_what_was_not_seen():
    """A busy machine looks like a weak gate otherwise."""
    doubts = ("other processes used 90% of the machine",)

    def disturbed(run):
        return replace(run, about=replace(run.about, environment_doubts=doubts))

    blocks = [
        Block(
            same=tuple(disturbed(run) for run in block.same),
            slowed={share: disturbed(run) for share, run in block.slowed.items()},
        )
        for block in blocks_of(np.random.default_rng(1), noise=0.001)
    ]
    settings = {"pairs": 12, "draws": 20, "rules": (), "seed": 1}
    guarded = gate_rates(blocks, guard=True, **settings)
    noted = gate_rates(blocks, guard=False, **settings)
    assert (guarded.power(0.3), guarded.taken_back) == (0.0, 1.0)
    assert (noted.power(0.3), noted.taken_back) == (1.0, 0.0)
    assert any("100% more were seen" in line for line in rates_lines(guarded))
    assert not any("more were seen" in line for line in rates_lines(noted))


@pytest.mark.parametrize("text", ["0", "-5%", "fast", "", "2000%"])
def test_a_slowdown_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="must be a share above 0"):
        parse_slowdowns(text)
    assert parse_slowdowns("10%, 0.05") == (0.05, 0.1)


CASES = """
def spin():
    total = 0
    for i in range(3000):
        total += i
    return total

def test_spin(benchmark):
    benchmark(spin)
"""


def test_the_command_measures_the_gate_and_keeps_what_it_found(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "benchmarks" / "test_x.py").write_text(CASES)
    environment = {k: v for k, v in os.environ.items() if k[:7] != "PYTEST_"}

    def calibrate(*arguments):
        return subprocess.run(
            [
                *(COMMAND, "calibrate", "--blocks=2", "--pairs=2", "--draws=10"),
                *("--slowdowns=400%", "--pytest-args=--benchmark-max-time=0.05"),
                *arguments,
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=environment | {"LAKEGAUGE_ENVIRONMENT_GUARD": "note"},
        )

    done = calibrate()
    assert done.returncode == 0, done.stderr
    assert "2 pairs: false alarms in" in done.stdout
    kept = next((tmp_path / "reports" / "calibrate").glob("*/rates.json"))
    document = json.loads(kept.read_text())
    assert document["selection"] == ["benchmarks"]
    assert document["cases"][0]["fullname"] == "benchmarks/test_x.py::test_spin"
    runs = sorted((tmp_path / "reports" / "calibrate").glob("*/*/*.json"))
    assert len(runs) == 6
    medians = {"same-1": [], "same-2": [], "slow-4": []}
    for path in runs:
        record = json.loads(path.read_text())["benchmarks"][0]
        medians[path.parent.name].append(record["stats"]["min"])
        facts = record["extra_info"]["lakegauge"]["facts"]
        assert facts["slowed_down"] == (4.0 if path.parent.name == "slow-4" else 0.0)
    slow = min(medians["slow-4"]) / min(medians["same-1"] + medians["same-2"])
    assert slow == pytest.approx(5.0, rel=0.25)
    machine = document["machine_info"]
    note = rates_note(tmp_path / "reports", machine)
    assert "with benchmarks and 2 pairs: false alarms in" in note
    assert rates_note(tmp_path / "reports", machine | {"cpu_count": 999}) == ""
    again = calibrate(f"--again={runs[0].parents[1]}")
    assert again.returncode == 0, again.stderr
    assert len(sorted((tmp_path / "reports" / "calibrate").glob("*/*/*.json"))) == 6
    kept.write_text("{")
    assert "is damaged: calibrate anew" in rates_note(tmp_path / "reports", machine)
    few = calibrate("--pairs=9")
    assert few.returncode == 2
    assert "--pairs must be from 1 to --blocks=2" in few.stderr

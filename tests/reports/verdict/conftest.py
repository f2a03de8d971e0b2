"""Report files of sides whose truth is known: noise, and one planted change."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from harness.reports.record import BLOCK
from harness.reports.summary import (
    case_block,
    exact_stats,
    measured_stats,
    measurement_of_durations,
    micro_block,
)

COMMAND = Path(sys.executable).with_name("lakegauge")
MACHINE_INFO = {
    "system": "Linux",
    "machine": "x86_64",
    "cpu_brand": "A processor",
    "cpu_count": 2,
    "python_implementation": "CPython",
    "python_minor": "3.11",
    "python_version": "3.11.7",
}
TIMES = ("min", "max", "mean", "stddev", "median", "iqr", "q1", "q3", "total")
TIMES += ("ld15iqr", "hd15iqr", "p50", "p90", "p95", "p99")


def template(kind):
    """A record of that kind; its numbers are computed from durations."""
    durations_s = np.linspace(0.001, 0.003, 500)
    stats = exact_stats(durations_s)
    if kind == "micro":
        block = micro_block(list(durations_s), facts={})
        stats |= {"p50": 0.002, "p90": 0.0028, "p95": 0.0029, "p99": 0.00298}
        stats |= {"ops": 500.0, "throughput": 500.0, "errors": 0}
    else:
        measurement = measurement_of_durations(durations_s, measure="ttft", wall_s=2.0)
        block = case_block(measurement, facts={"postgres_version": "17.10"})
        stats |= measured_stats(measurement)
    return {
        "group": "g",
        "params": None,
        "param": None,
        "extra_info": {BLOCK: block.model_dump(mode="json", exclude_none=True)},
        "options": {},
        "stats": stats,
    }


TEMPLATES = {kind: template(kind) for kind in ("micro", "series")}


class Side:
    """Runs of one side, each a report file; noise is drawn once per run.

    Args:
        folder: Where the reports go.
        rng: The noise.
        start: When the first run was made; each takes five minutes.
    """

    def __init__(self, folder, rng, start):
        self.folder = folder
        self.rng = rng
        self.now = start

    def record(self, name, kind="micro", *, scale=None, errors=0, facts=None):
        record = copy.deepcopy(TEMPLATES[kind])
        record["name"] = name
        record["fullname"] = f"benchmarks/test_x.py::{name}"
        stats, block = record["stats"], record["extra_info"][BLOCK]
        for key in TIMES:
            if key in stats:
                stats[key] *= (scale or {}).get(key, (scale or {}).get("*", 1.0))
        stats["throughput"] *= (scale or {}).get("throughput", 1.0)
        if errors:
            stats["errors"] = errors
            block["accounting"]["failed"] = errors
            block["accounting"]["scheduled"] += errors
        block["facts"] |= facts or {}
        return record

    def save(self, records, *, minutes=5, failed=None, machine=None, **block):
        number = len(list(self.folder.glob("*.json"))) + 1
        document = {
            "machine_info": MACHINE_INFO | (machine or {}),
            "commit_info": {"id": "0123456789abcdef", "dirty": False},
            "version": "5.3.1",
            "datetime": self.now.isoformat(),
            "benchmarks": records,
            BLOCK: {
                "schema_version": 2,
                "complete": True,
                "smoke": False,
                "failed": failed or {},
            }
            | block,
        }
        self.now += timedelta(minutes=minutes)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{number:04d}_x.json"
        path.write_text(json.dumps(document))
        return path

    def noisy(self, cases, *, noise=0.02, kind="micro", planted=None, **save):
        """Save one run: every case off by its own draw, some by what is planted."""
        records = []
        for name in cases:
            off = float(np.exp(self.rng.normal(0, noise)))
            planted_scale = dict((planted or {}).get(name, {}))
            errors = planted_scale.pop("errors", 0)
            everywhere = planted_scale.pop("*", 1.0)
            scale = {"*": off * everywhere, "throughput": 1 / off}
            for key, factor in planted_scale.items():
                scale[key] = scale.get(key, off) * factor
            records.append(self.record(name, kind, scale=scale, errors=errors))
        return self.save(records, **save)


@pytest.fixture
def make_side(tmp_path):
    """Return a function that starts a side in a folder of its own."""

    def make(name, *, seed=None, start=datetime(2026, 1, 1, tzinfo=UTC)):
        seed = sum(name.encode()) if seed is None else seed
        return Side(tmp_path / "reports" / name, np.random.default_rng(seed), start)

    return make


@pytest.fixture
def compare(tmp_path):
    """Return a function that runs the command in the folder above the reports."""

    def run(*arguments, **environ):
        return subprocess.run(
            [COMMAND, "compare", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)} | environ,
        )

    return run

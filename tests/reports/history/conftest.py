"""A folder of nightly reports whose truth is known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

STATS = {
    "min": 0.001,
    "max": 0.003,
    "mean": 0.002,
    "stddev": 0.0001,
    "median": 0.002,
    "iqr": 0.0001,
    "rounds": 500,
    "outliers": "0;0",
    "p50": 0.002,
    "p99": 0.0029,
    "throughput": 500.0,
    "errors": 0,
}
MACHINE_INFO = {
    "system": "Linux",
    "machine": "x86_64",
    "cpu_brand": "A processor",
    "cpu_count": 2,
    "python_implementation": "CPython",
    "python_minor": "3.11",
}


class Nights:
    """One report a night; noise is drawn per case and night."""

    def __init__(self, folder):
        self.folder = folder
        self.rng = np.random.default_rng(1)
        self.night = datetime(2026, 1, 1, 2, tzinfo=UTC)
        self.count = 0

    def save(
        self,
        scales,
        *,
        noise=0.02,
        commit=None,
        machine=None,
        facts=None,
        days=1,
        **run,
    ):
        records = []
        for name, scale in scales.items():
            off = scale * float(np.exp(self.rng.normal(0, noise)))
            stats = dict(STATS)
            for key in ("min", "max", "mean", "median", "p50", "p99"):
                stats[key] *= off
            stats["throughput"] /= off
            block = {
                "schema_version": 2,
                "kind": "closed_loop",
                "measure": "response_time",
                "facts": facts or {},
                "values_count": 500,
            }
            records.append(
                {
                    "group": "g",
                    "name": name,
                    "fullname": f"benchmarks/test_x.py::{name}",
                    "extra_info": {"lakegauge": block},
                    "stats": stats,
                }
            )
        self.count += 1
        document = {
            "machine_info": MACHINE_INFO | (machine or {}),
            "commit_info": {"id": commit or f"{self.count:04d}aaaaaaaa"},
            "datetime": self.night.isoformat(),
            "version": "5.3.1",
            "benchmarks": records,
            "lakegauge": {"schema_version": 2, "complete": True, "smoke": False} | run,
        }
        self.night += timedelta(days=days)
        path = (
            self.folder / "Linux-CPython-3.11-64bit" / f"{self.count:04d}_nightly.json"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
        return path

    def many(self, count, **scales):
        return [self.save(scales) for _ in range(count)]


@pytest.fixture
def nights(tmp_path):
    return Nights(tmp_path / "reports")

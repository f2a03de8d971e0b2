"""Is this machine as fast as it was, and what can the gate see on it?

Nothing here is ours: a change in these cases is a change of the machine or of Python.
They are also the cases that `lakegauge calibrate benchmarks/test_canary.py` tries the
gate with.
"""

from __future__ import annotations

import hashlib
import json
import random
import re

import pytest

pytestmark = pytest.mark.benchmark(group="canary", max_time=0.3, min_rounds=20)

NUMBERS = random.Random(1).sample(range(1_000_000), 2_000)
DOCUMENT = {f"key_{i}": [i, i / 7, str(i)] for i in range(150)}
TEXT = "2026-01-02 12:30:45 INFO pool checkout took 12.5 ms; " * 40
PATTERN = re.compile(r"(\d{4})-(\d{2})-(\d{2}) \S+ (\w+) .*? ([\d.]+) ms")


def test_arithmetic(benchmark):
    def total():
        value = 0
        for i in range(4_000):
            value += i * i % 7
        return value

    assert benchmark(total) == 7_999


def test_sort(benchmark):
    assert benchmark(sorted, NUMBERS)[0] == min(NUMBERS)


def test_json(benchmark):
    assert benchmark(lambda: json.loads(json.dumps(DOCUMENT))) == DOCUMENT


def test_regular_expression(benchmark):
    assert len(benchmark(PATTERN.findall, TEXT)) == 40


def test_hash(benchmark):
    block = bytes(range(256)) * 800

    assert benchmark(lambda: hashlib.sha256(block).hexdigest())[:6] == digest(block)


def digest(block):
    return hashlib.sha256(block).hexdigest()[:6]

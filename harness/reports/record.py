"""What a report holds of ours: one block per case, one per run, both versioned."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Key of our block in a record's `extra_info` and at the top level of a report.
BLOCK = "lakegauge"

# History of the schema. A reader refuses a version newer than its own.
# 1: first.
# 2: case: thresholds, corrected_ms; run: environment, pair.
SCHEMA_VERSION = 2

# Flat: facts are compared one by one and shown in one line.
Fact = str | int | float | bool


class _Block(BaseModel):
    """Strict on what we write: a misspelt key must not vanish in a report."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION


class Accounting(BaseModel):
    """Where every operation went: scheduled is the sum of the other four."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheduled: int
    completed: int
    failed: int
    dropped: int
    unfinished: int
    warmup: int = 0


class CaseBlock(_Block):
    """One benchmark case.

    Attributes:
        kind: "micro" for pytest-benchmark's own calibrated rounds, "closed_loop"
            or "open_loop" for a load run, "series" for durations that a subject
            measured itself.
        measure: What the values in `stats` are, such as "response_time" or "ttft".
        facts: What was measured (server version, target, smoke); records whose
            facts differ are not compared.
        accounting: Operations by outcome; None for micro cases.
        wall_s: Length of the measured phase, in seconds.
        workers: Concurrent callers, over all processes.
        processes: Processes the load was made in.
        schedule: The arrival schedule of an open loop, in words.
        crewing: Why these workers, where the engine picked them.
        interrupted: Whether the run was ended early by Ctrl-C.
        errors: Failed operations by class name.
        split_ms: Quantiles of start delay, checkout wait and service time, in
            milliseconds, by part and quantile key.
        intervals_ms: 95 % confidence interval of each quantile of the compared values,
            lower and upper end, in milliseconds; see `harness.load.intervals`.
        corrected_ms: Of a closed loop, each quantile of the response time as measured
            ("uncorrected") and corrected for coordinated omission after the fact
            ("corrected"): a guess; see `harness.load.correction`.
        generator_cpu_utilization: CPU time of the load generator per wall time;
            1.0 is one whole core.
        per_second: Completed operations in each whole second of a load run, the
            first hour at most.
        details: Further figures of the subject, in the units of their names.
        doubts: Why a reader should hesitate to believe this case, a sentence each.
        histogram: The compared values as a mergeable histogram.
        thresholds: Change that matters to this case, by metric, where it asks for
            another one than the rest.
        values_count: How many values `stats` was computed from.
    """

    kind: Literal["micro", "closed_loop", "open_loop", "series"]
    measure: str
    facts: dict[str, Fact] = Field(default_factory=dict)
    accounting: Accounting | None = None
    wall_s: float | None = None
    workers: int | None = None
    processes: int | None = None
    schedule: str | None = None
    crewing: str | None = None
    interrupted: bool = False
    errors: dict[str, int] = Field(default_factory=dict)
    split_ms: dict[str, dict[str, float]] = Field(default_factory=dict)
    intervals_ms: dict[str, tuple[float, float]] = Field(default_factory=dict)
    corrected_ms: dict[str, dict[str, float]] = Field(default_factory=dict)
    generator_cpu_utilization: float | None = None
    per_second: list[int] = Field(default_factory=list)
    details: dict[str, Any] = Field(default_factory=dict)
    doubts: list[str] = Field(default_factory=list)
    histogram: dict[str, Any] | None = None
    thresholds: dict[str, float] = Field(default_factory=dict)
    values_count: int


class EnvironmentBlock(BaseModel):
    """What the machine did during a run.

    Attributes:
        load_1min: Load average of the last minute when the run began and ended.
        others: Share of the machine's CPU time used by other processes, 0 to 1.
        stolen: Share taken by the host for other machines, 0 to 1.
        throttled_s: Time that the container's CPU quota held its processes back.
        thermal_throttles: Times that the processors slowed down for their heat.
        involuntary_switches_per_s: Times per second that another process took the
            processor of ours.
        affinity_count: Processors that the run was allowed to use.
        doubts: Why figures of this run are in doubt, a sentence each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    load_1min: tuple[float, float] | None = None
    others: float | None = None
    stolen: float | None = None
    throttled_s: float | None = None
    thermal_throttles: int | None = None
    involuntary_switches_per_s: float | None = None
    affinity_count: int | None = None
    doubts: list[str] = Field(default_factory=list)


class PairBlock(BaseModel):
    """The place of a run in an A/B experiment.

    Attributes:
        experiment: Id of the experiment.
        index: Number of the pair, from 0.
        side: "A" or "B".
        first: Whether it ran before its partner.
        variant: What the side is, in the words of the command line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    index: int
    side: Literal["A", "B"]
    first: bool
    variant: str


class RunBlock(_Block):
    """One run of pytest.

    Attributes:
        complete: False while the run goes on, and for ever if it was killed.
        smoke: Whether smoke values were used.
        failed: Cases that did not pass and are therefore not in the report, with
            the outcome: {"benchmarks/test_x.py::test_y": "failed in call"}, or with
            what made the result invalid.
        environment: What the machine did; None where it was not watched.
        pair: The run's place in an A/B experiment; None if it is in none.
    """

    complete: bool
    smoke: bool
    failed: dict[str, str] = Field(default_factory=dict)
    environment: EnvironmentBlock | None = None
    pair: PairBlock | None = None


def case_block_of(record: dict[str, Any]) -> CaseBlock | None:
    """Return our block of a record, or None where there is none to be read."""
    block = (record.get("extra_info") or {}).get(BLOCK)
    return None if block is None else CaseBlock.model_validate(block)

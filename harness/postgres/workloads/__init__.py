"""Workloads on Postgres, and the check that their work was really done."""

from __future__ import annotations

from harness.postgres.workloads.lookups import (
    FiveLookups,
    PipelinedLookup,
    PrimaryKeyLookup,
    RangeScan,
    ReadWriteMix,
    TableWorkload,
    UserLookup,
)
from harness.postgres.workloads.source import Held, Pooled
from harness.postgres.workloads.tally import Claim, Tally
from harness.postgres.workloads.tpcb import AccountLookup, TpcB
from harness.postgres.workloads.witness import Witness
from harness.postgres.workloads.workload import Worker, Workload

__all__ = [
    "AccountLookup",
    "Claim",
    "FiveLookups",
    "Held",
    "PipelinedLookup",
    "Pooled",
    "PrimaryKeyLookup",
    "RangeScan",
    "ReadWriteMix",
    "TableWorkload",
    "Tally",
    "TpcB",
    "UserLookup",
    "Witness",
    "Worker",
    "Workload",
]

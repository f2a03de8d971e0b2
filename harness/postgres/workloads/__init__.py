"""Workloads on Postgres, and the check that their work was really done."""

from __future__ import annotations

from harness.postgres.workloads.ingest import (
    CopyRows,
    InsertBatch,
    InsertPipeline,
    InsertRows,
    UpsertRows,
    make_ingest_table,
)
from harness.postgres.workloads.ledger import Ledger, LedgerAudit
from harness.postgres.workloads.lookups import (
    FiveLookups,
    PipelinedLookup,
    PrimaryKeyLookup,
    RangeScan,
    ReadWriteMix,
    TableWorkload,
    UserLookup,
)
from harness.postgres.workloads.script import ScriptWorkload
from harness.postgres.workloads.source import Held, Pooled
from harness.postgres.workloads.tally import Claim, Tally
from harness.postgres.workloads.tpcb import AccountLookup, TpcB
from harness.postgres.workloads.witness import Witness
from harness.postgres.workloads.workload import Worker, Workload
from harness.postgres.workloads.ycsb import YCSB_MIXES, Mix, Ycsb

__all__ = [
    "YCSB_MIXES",
    "AccountLookup",
    "Claim",
    "CopyRows",
    "FiveLookups",
    "Held",
    "InsertBatch",
    "InsertPipeline",
    "InsertRows",
    "Ledger",
    "LedgerAudit",
    "Mix",
    "PipelinedLookup",
    "Pooled",
    "PrimaryKeyLookup",
    "RangeScan",
    "ReadWriteMix",
    "ScriptWorkload",
    "TableWorkload",
    "Tally",
    "TpcB",
    "UpsertRows",
    "UserLookup",
    "Witness",
    "Worker",
    "Workload",
    "Ycsb",
    "make_ingest_table",
]

"""Spreading a load run over Spark executors: a share each, one start for all.

Each share runs as a task of one barrier stage, in a Python process of its own on
whatever machine Spark chose; all tasks run at once or not at all. The tasks agree on a
start, measure on their own monotonic clocks, and what they bring back is put onto the
clock of the driver and merged as if it came from processes of this machine.
"""

from __future__ import annotations

import logging
import platform
import re
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK
from harness.errors import ConfigError, LoadError
from harness.load.rebasing import rebased
from harness.settings import redact
from harness.spark import load_place
from harness.spark.parcel import packed, unpacked
from harness.spark.wall_clocks import (
    ClockComparison,
    Probe,
    wall_clock_ns,
    wall_offset_ns,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    from harness.load.crew import ShareResult
    from harness.load.plan import Plan
    from harness.spark.load_place import Outcome

# What a session must be started with: by default Spark repeats a barrier stage that
# lost a task, and with it the load, without saying so.
SESSION_CONF = {"spark.stage.maxConsecutiveAttempts": "1"}

# Samples that all executors together may send to the driver one by one: 34 bytes
# each, well below spark.driver.maxResultSize. Past it they send histograms.
RAW_BUDGET_ALL = 8_000_000

# Clocks proven to differ by more from the driver's are no common clock. Time
# synchronisation keeps them within a few milliseconds; a job takes longer than that,
# so a smaller difference cannot be seen this way.
CLOCKS_APART_NS = 100 * NS_PER_MS
# Jobs in which clocks are compared: until they are known to agree that well, or as
# many as is worth while.
PROBES_MIN, PROBES_MAX = 3, 10

# The run starts this long after the last share is ready: Spark looks once a second
# whether all are. Longer where the network has a say.
LEAD_HERE_NS, LEAD_NS = 2 * NS_PER_S, 5 * NS_PER_S

# How long executors that are still starting are waited for.
_SLOTS_TIMEOUT_S = 60.0
_SLOTS_POLL_S = 0.2

_TASK = re.compile(r"(?:ResultTask|ShuffleMapTask)\(\d+, (\d+)\)")
_MISSING = re.compile(r"ModuleNotFoundError: (No module named '[^']+')")
_CAUSE = re.compile(r"ExecutorLostFailure[^\n]*|Python worker [^\n]*")


def run_on_executors(session: SparkSession, plan: Plan) -> list[ShareResult]:
    """Run each share of the plan in a task on an executor and bring them back.

    Ctrl-C ends the run without a result: Spark can stop a task, but not tell it to
    come back with what it has.

    Raises:
        ConfigError: If this session cannot run it; nothing has been started.
        LoadError: If a task or its executor was lost, or clocks are too far apart.
        BaseException: What a set-up or tear-down raised on an executor.
    """
    context = _checked_context(session)
    plan = replace(
        plan, raw_budget=min(plan.raw_budget, RAW_BUDGET_ALL // plan.processes)
    )
    parcel = packed(plan)
    slots = _wait_for_slots(context, plan.processes)
    # These short stages also start the workers and import what a run needs: the
    # first stage of a session can be a tenth of a second late.
    clocks = _compared_clocks(context, slots)
    here = set(clocks.ahead_ns) == {platform.node()}
    lead_ns = LEAD_HERE_NS if here else LEAD_NS
    task = partial(load_place.run_task, parcel, lead_ns)
    parcels = _barrier_stage(context, plan.processes, task)
    return _shares([unpacked(each) for each in parcels], clocks)


def _checked_context(session: SparkSession) -> SparkContext:
    # Absent over Spark Connect, where asking for it raises an AttributeError.
    context: SparkContext | None = getattr(session, "sparkContext", None)
    if context is None:
        msg = (
            "--load-on=spark needs a Spark session with executors of its own; over "
            "Spark Connect (--spark-remote, LAKEGAUGE_SPARK_REMOTE) there are no "
            "barrier stages. Run pytest on the cluster's driver, or use "
            "--load-on=local"
        )
        raise ConfigError(msg)
    found = dict(context.getConf().getAll())
    for key, wanted in SESSION_CONF.items():
        if found.get(key) != wanted:
            msg = (
                f"{key} must be {wanted}, got {found.get(key, 'the default')}: Spark "
                "would repeat the run without saying so when an executor is lost. Set "
                "it when the session is started"
            )
            raise ConfigError(msg)
    if found.get("spark.dynamicAllocation.enabled", "false") == "true":
        msg = (
            "spark.dynamicAllocation.enabled must be false for --load-on=spark: all "
            "shares of a run start together, on executors that are there"
        )
        raise ConfigError(msg)
    return context


def _wait_for_slots(context: SparkContext, wanted: int) -> int:
    """Wait for executors and count their slots.

    Spark itself would try for ten minutes.

    Raises:
        ConfigError: If Spark has too few slots for all shares at once.
    """
    spark = context._jsc.sc()  # noqa: SLF001  # no other way
    profile = spark.resourceProfileManager().defaultResourceProfile()
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + round(_SLOTS_TIMEOUT_S * NS_PER_S)
    while (slots := int(spark.maxNumConcurrentTasks(profile))) < wanted:
        # The slots of a local master are all there is.
        local = str(context.master).split("[")[0] == "local"
        if local or SYSTEM_CLOCK.monotonic_ns() > deadline_ns:
            msg = (
                f"processes={wanted} needs as many slots at once, and Spark on "
                f"{context.master} has {slots}: give it more executors or cores "
                "(LAKEGAUGE_SPARK_MASTER), or use fewer processes"
            )
            raise ConfigError(msg)
        SYSTEM_CLOCK.sleep(_SLOTS_POLL_S)
    return slots


def _compared_clocks(context: SparkContext, slots: int) -> ClockComparison:
    """Compare the clocks of all executors with ours.

    Raises:
        LoadError: If they are too far apart to start together.
    """
    probes: list[Probe] = []
    while True:
        asked_ns = wall_clock_ns(SYSTEM_CLOCK)
        # A task in every slot, so that no executor is left out.
        readings = _barrier_stage(context, slots, load_place.read_clock)
        answered_ns = wall_clock_ns(SYSTEM_CLOCK)
        probes.append(
            Probe(asked_ns=asked_ns, answered_ns=answered_ns, readings=readings)
        )
        clocks = ClockComparison.of(probes)
        if clocks.apart_ns > CLOCKS_APART_NS:
            msg = (
                f"the wall clock of {clocks.furthest} and the driver's differ by at "
                f"least {clocks.apart_ns / NS_PER_MS:.0f} ms, so a run cannot start "
                "together; synchronise them (NTP) and repeat"
            )
            raise LoadError(msg)
        if len(probes) >= PROBES_MIN and clocks.bound_ns <= CLOCKS_APART_NS:
            return clocks
        if len(probes) == PROBES_MAX:
            return clocks


def _barrier_stage(
    context: SparkContext, tasks: int, function: Callable[..., Iterator[Any]]
) -> list[Any]:
    """Run *function* as one barrier stage of *tasks* tasks; return what they yield.

    Raises:
        LoadError: If the stage failed.
    """
    from py4j.protocol import (  # type: ignore[import-untyped]  # has no types
        Py4JError,
    )
    from pyspark.errors import PySparkException

    ranks = context.parallelize(range(tasks), tasks).barrier()
    try:
        with _quiet_gateway():
            return ranks.mapPartitionsWithIndex(function).collect()
    except (Py4JError, PySparkException) as error:
        raise _stage_error(str(error)) from None
    except KeyboardInterrupt:
        # A load that nobody waits for must not go on.
        context.cancelAllJobs()
        raise


@contextmanager
def _quiet_gateway() -> Iterator[None]:
    """Keep py4j from logging commands, of which one holds the plan, and Ctrl-C."""
    logger = logging.getLogger("py4j")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _stage_error(text: str) -> LoadError:
    """Say in one sentence what Spark says with a stack trace."""
    if missing := _MISSING.search(text):
        return LoadError(
            f"an executor cannot run the load: {missing[1]}; install the package with "
            "its dependencies on every executor, or ship it with --py-files"
        )
    found = _CAUSE.search(text)
    # One sentence: Spark adds which of its settings to change, or a stack trace.
    cause = (found[0] if found else text).strip().splitlines()[0].split(". ")[0]
    task = _TASK.search(text)
    who = f"worker process {task[1]} on Spark" if task else "the stage on Spark"
    return LoadError(
        f"{who} was lost ({redact(cause)}); its share of the run is lost, so the run "
        "is not a result"
    )


def _shares(outcomes: list[Outcome], clocks: ClockComparison) -> list[ShareResult]:
    """Return the shares on the driver's clock.

    Raises:
        BaseException: What a place raised; the first one's.
        LoadError: If a place did not start with the others.
    """
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    own_offset_ns = wall_offset_ns(SYSTEM_CLOCK)
    shares = []
    for rank, outcome in enumerate(outcomes):
        who = f"worker process {rank} on Spark ({outcome.machine}, pid {outcome.pid})"
        if outcome.share is None or outcome.machine not in clocks.ahead_ns:
            msg = (
                f"{who} ran on a machine that was not there when the clocks were "
                "compared; repeat"
            )
            raise LoadError(msg)
        if outcome.late_ns:
            msg = (
                f"{who} was ready {outcome.late_ns / NS_PER_MS:.0f} ms after the "
                "start that was agreed on; repeat on a quieter cluster"
            )
            raise LoadError(msg)
        share = replace(
            outcome.share, clock_skew_ns=clocks.bound_ns + abs(outcome.wall_moved_ns)
        )
        shares.append(rebased(share, outcome.wall_offset_ns - own_offset_ns))
    return shares

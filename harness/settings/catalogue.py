"""The list of all settings, read from the models: one truth for every reader."""

from __future__ import annotations

import types
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr

from harness.settings.field import Kind, Setting
from harness.settings.model import groups

if TYPE_CHECKING:
    from collections.abc import Iterator

# Sections of the JSON file whose name is not the group's own.
SECTIONS = {"pool": "production_pool"}

# Variables that say where to read, so they are no settings themselves.
ENV_FILE = "LAKEGAUGE_ENV_FILE"
CONFIG_FILE = "LAKEGAUGE_CONFIG"
CONTROL = {
    ENV_FILE: "File to read instead of ./.env; set it in the environment.",
    CONFIG_FILE: (
        "File to read instead of ./lakegauge.json; "
        "set it in the environment or in .env."
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingInfo:
    """One setting: all its names, and what a right value is.

    Attributes:
        path: `group.field`, as in the code.
        setting: Its names and help text.
        section: Its section of the JSON file.
        keys: Its keys in that section, the preferred one first.
        kind: What a right value looks like.
        secret: Whether the value must never be shown.
        default: Its default, or None.
    """

    path: str
    setting: Setting
    section: str
    keys: tuple[str, ...]
    kind: str
    secret: bool
    default: Any

    @property
    def variables(self) -> tuple[str, ...]:
        """Variables of equal rank, the preferred one first."""
        return (self.setting.env, *self.setting.aliases)

    @property
    def description(self) -> str:
        """The help text, honest about a setting that nothing reads."""
        note = "" if self.setting.used else " (Kept for compatibility; not used yet.)"
        return self.setting.help + note


@cache
def by_path() -> dict[str, SettingInfo]:
    """Return every setting by its path, in the order of the models."""
    return {info.path: info for info in _walk()}


@cache
def by_variable() -> dict[str, tuple[SettingInfo, ...]]:
    """Return the settings each environment variable sets."""
    found: dict[str, tuple[SettingInfo, ...]] = {}
    for info in by_path().values():
        for name in (*info.variables, *info.setting.fallbacks):
            found[name] = (*found.get(name, ()), info)
    return found


@cache
def by_section() -> dict[str, dict[str, SettingInfo]]:
    """Return the settings by JSON section and key."""
    found: dict[str, dict[str, SettingInfo]] = {}
    for info in by_path().values():
        for key in info.keys:
            found.setdefault(info.section, {})[key] = info
    return found


@cache
def secret_variables() -> frozenset[str]:
    """Return every environment variable that holds a secret of ours."""
    return frozenset(
        name
        for name, infos in by_variable().items()
        if any(info.secret for info in infos)
    )


def _walk() -> Iterator[SettingInfo]:
    for group, model in groups().items():
        for name, field in model.model_fields.items():
            parts = list(_parts(field.annotation)) + field.metadata
            setting = next(p for p in field.metadata if isinstance(p, Setting))
            yield SettingInfo(
                path=f"{group}.{name}",
                setting=setting,
                section=SECTIONS.get(group, group),
                keys=tuple(dict.fromkeys(filter(None, (setting.json, name)))),
                kind=_kind(parts),
                secret=SecretStr in parts,
                default=field.default,
            )


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the types and the metadata inside an annotation, outermost last."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        yield from _parts(inner)
        yield from metadata
    elif origin in {Union, types.UnionType}:
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _kind(parts: list[Any]) -> str:
    for part in reversed(parts):
        if isinstance(part, Kind):
            return part.text
    for part in parts:
        if get_origin(part) is Literal:
            return "one of " + ", ".join(get_args(part))
    msg = f"no Kind among {parts}"
    raise TypeError(msg)

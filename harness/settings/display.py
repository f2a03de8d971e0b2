"""Settings as text, Markdown and JSON; secrets are masked in all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from harness.settings.catalogue import CONTROL, SettingInfo, by_path
from harness.settings.redaction import MASK, redact, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.settings.model import Settings


def matching(word: str | None) -> list[SettingInfo]:
    """Return the settings with *word* in any of their names; all without one."""
    wanted = (word or "").lower()
    return [
        info
        for info in by_path().values()
        if any(wanted in name.lower() for name in _names(info))
    ]


def current_lines(settings: Settings) -> Iterator[str]:
    """Yield one line per setting: its path, its value and where that came from."""
    values = {path: _typed(settings.value_of(path)) for path in by_path()}
    path_width = max(map(len, values))
    value_width = min(max(map(len, values.values())), 40)
    for path, value in values.items():
        source = redact(str(settings.source_of(path)))
        yield f"{path:{path_width}}  {value:{value_width}}  {source}"


def current_json(settings: Settings) -> dict[str, Any]:
    """Return every value with the layer and the name it came from."""
    return {path: _value_json(settings, path) for path in by_path()}


def help_lines(infos: Iterable[SettingInfo]) -> Iterator[str]:
    """Yield a paragraph per setting."""
    for info in infos:
        yield info.path
        yield f"    {info.description}"
        yield f"    must be {info.kind}; default {_default(info)}"
        for label, names in _labelled(info):
            yield f"    {label}: {', '.join(names)}"
        yield ""


def control_lines() -> Iterator[str]:
    """Yield a paragraph per variable that says which file to read."""
    for name, text in CONTROL.items():
        yield f"{name}\n    {text}"


def help_markdown() -> Iterator[str]:
    """Yield the tables of `docs/configuration.md`, one per group."""
    group = ""
    for info in by_path().values():
        if info.path.split(".")[0] != group:
            group = info.path.split(".")[0]
            yield f"\n### {group}\n"
            yield "| setting | variables | JSON key | value | default | meaning |"
            yield "|---|---|---|---|---|---|"
        variables = ", ".join(f"`{name}`" for name in info.variables)
        if info.setting.fallbacks:
            names = ", ".join(f"`{name}`" for name in info.setting.fallbacks)
            variables += f"; after these {names}"
        if info.setting.option:
            variables += f"; option `{info.setting.option}`"
        keys = ", ".join(f"`{info.section}.{key}`" for key in info.keys)
        cells = (
            f"`{info.path}`",
            variables,
            keys,
            info.kind,
            f"`{_default(info)}`",
            info.description,
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def help_json(infos: Iterable[SettingInfo]) -> list[dict[str, Any]]:
    """Return everything that is known about each setting."""
    return [
        {
            "setting": info.path,
            "variables": list(info.variables),
            "fallback_variables": list(info.setting.fallbacks),
            "json_keys": [f"{info.section}.{key}" for key in info.keys],
            "option": info.setting.option,
            "value": info.kind,
            "default": _plain(info.default),
            "secret": info.secret,
            "used": info.setting.used,
            "description": info.description,
        }
        for info in infos
    ]


def _value_json(settings: Settings, path: str) -> dict[str, Any]:
    source = settings.source_of(path)
    return {
        "value": _plain(settings.value_of(path)),
        "layer": source.layer,
        "name": source.name,
        "file": str(source.file) if source.file else None,
        "line": source.line,
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold and anybody may read."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def _names(info: SettingInfo) -> tuple[str, ...]:
    return (info.path, *(name for _, names in _labelled(info) for name in names))


def _labelled(info: SettingInfo) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "variable", info.variables
    if info.setting.fallbacks:
        yield "after these, variable", info.setting.fallbacks
    yield "JSON key", tuple(f"{info.section}.{key}" for key in info.keys)
    if info.setting.option:
        yield "pytest option", (info.setting.option,)


def _default(info: SettingInfo) -> str:
    return _typed(info.default)


def _typed(value: Any) -> str:
    """Return a value the way a person would type it into a variable."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return redact(value) if isinstance(value, str) else show(value)

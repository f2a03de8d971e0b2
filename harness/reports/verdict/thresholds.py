"""How large a change must be to matter, per case and metric."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.reports.verdict.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORM = "such as p50=2%, p99=0.1, test_pool_*:p99=20%"


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """One rule of a setting.

    Attributes:
        pattern: Glob that the node id or the test's name must match; None for all.
        metric: The metric it is about.
        threshold: Relative change, 0.02 for 2 %.
    """

    pattern: str | None
    metric: str
    threshold: float

    def applies_to(self, fullname: str) -> bool:
        """Whether the rule names this case."""
        if self.pattern is None:
            return False
        # Square brackets are part of a node id, not a set of characters.
        pattern = self.pattern.replace("[", "[[]")
        names = (fullname, fullname.rpartition("::")[2])
        return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def parse_thresholds(text: str, *, source: str) -> tuple[ThresholdRule, ...]:
    """Read rules from a text: `[PATTERN:]METRIC=CHANGE`, separated by commas.

    Args:
        text: The rules; later ones win.
        source: Where the text came from, for an error message.

    Raises:
        ConfigError: If a rule is misspelt.
    """
    rules = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        about, equals, value = part.rpartition("=")
        pattern, _, metric = about.rpartition(":")
        if not equals or metric not in METRICS:
            msg = (
                f"{source}: {part!r} is no threshold: must be [PATTERN:]METRIC=CHANGE "
                f"with one of {', '.join(METRICS)}, {_FORM}"
            )
            raise ConfigError(msg)
        rules.append(
            ThresholdRule(pattern or None, metric, _change(value, part, source))
        )
    return tuple(rules)


def checked_thresholds(
    values: Mapping[str, object], *, source: str
) -> dict[str, float]:
    """Check the thresholds that a case asks for itself.

    Raises:
        ConfigError: If a metric is unknown or a threshold is no number from 0 to 10.
    """
    found = {}
    for metric, value in values.items():
        if metric not in METRICS:
            known = ", ".join(METRICS)
            msg = f"{source}: {metric!r} is no metric: must be one of {known}"
            raise ConfigError(msg)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            msg = f"{source}: {metric}={value!r}: must be a number or a text, {_FORM}"
            raise ConfigError(msg)
        found[metric] = _change(str(value), f"{metric}={value}", source)
    return found


def threshold_of(
    metric: str,
    *,
    fullname: str,
    asked: Mapping[str, float],
    rules: tuple[ThresholdRule, ...],
) -> float:
    """Return the threshold of one metric of one case.

    The nearest word wins: a rule of the setting that names the case, then what the
    case asks for itself, then a rule for all, then the default.
    """
    named = [r for r in rules if r.metric == metric and r.applies_to(fullname)]
    if named:
        return named[-1].threshold
    if metric in asked:
        return asked[metric]
    general = [r for r in rules if r.metric == metric and r.pattern is None]
    return general[-1].threshold if general else METRICS[metric].threshold


def _change(text: str, part: str, source: str) -> float:
    value = text.strip()
    try:
        number = float(value.removesuffix("%"))
    except ValueError:
        number = -1.0
    number = number / 100 if value.endswith("%") else number
    if not 0 <= number <= 10:  # noqa: PLR2004  # 1,000 %: beyond, it is a mistake
        msg = f"{source}: {part!r}: the change must be from 0 to 10, {_FORM}"
        raise ConfigError(msg)
    return number

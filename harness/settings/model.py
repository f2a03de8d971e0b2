"""All settings of one run: frozen, every value with the source it came from."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from harness.errors import ConfigError
from harness.settings.agent import AgentSettings
from harness.settings.benchmark import BenchmarkSettings
from harness.settings.databricks import DatabricksSettings
from harness.settings.field import Group
from harness.settings.lakebase import LakebaseSettings
from harness.settings.monitoring import MonitoringSettings
from harness.settings.pool import PoolSettings
from harness.settings.security import SecuritySettings
from harness.settings.source import DEFAULT, Source
from harness.settings.spark import SparkSettings
from harness.settings.target import TargetSettings
from harness.settings.verdict import VerdictSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic.fields import FieldInfo

    from harness.settings.layers import LayerValues


class LayerSource(PydanticBaseSettingsSource):
    """One layer of values, as pydantic-settings wants to be given it."""

    def __init__(self, settings_cls: type[BaseSettings], values: LayerValues) -> None:
        super().__init__(settings_cls)
        self._values = values

    def get_field_value(
        self, field: FieldInfo, field_name: str
    ) -> tuple[Any, str, bool]:
        """Return the values this layer holds for one group."""
        del field
        prefix = f"{field_name}."
        group = {
            path.removeprefix(prefix): entry.value
            for path, entry in self._values.items()
            if path.startswith(prefix)
        }
        return group, field_name, True

    def __call__(self) -> dict[str, Any]:
        """Return the values of every group this layer touches."""
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: group for name, group in found.items() if group}


class Settings(BaseSettings):
    """Every setting, grouped by subject. Made by `load_settings`.

    pydantic-settings merges the layers per field, so a value in a high layer
    never hides its neighbours in a lower one.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True
    )

    target: TargetSettings = Field(default_factory=TargetSettings)
    pool: PoolSettings = Field(default_factory=PoolSettings)
    benchmark: BenchmarkSettings = Field(default_factory=BenchmarkSettings)
    lakebase: LakebaseSettings = Field(default_factory=LakebaseSettings)
    databricks: DatabricksSettings = Field(default_factory=DatabricksSettings)
    security: SecuritySettings = Field(default_factory=SecuritySettings)
    monitoring: MonitoringSettings = Field(default_factory=MonitoringSettings)
    agent: AgentSettings = Field(default_factory=AgentSettings)
    spark: SparkSettings = Field(default_factory=SparkSettings)
    verdict: VerdictSettings = Field(default_factory=VerdictSettings)

    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)
    _files: dict[str, Path] = PrivateAttr(default_factory=dict)

    def __init__(
        self,
        layers: Sequence[LayerValues],
        *,
        files: Mapping[str, Path] | None = None,
    ) -> None:
        super().__init__(layers=layers)
        for layer in reversed(layers):
            self._sources.update({path: e.source for path, e in layer.items()})
        self._files.update(files or {})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read our layers only: the built-in sources know one name per field."""
        del env_settings, dotenv_settings, file_secret_settings
        layers = init_settings()["layers"]
        return tuple(LayerSource(settings_cls, values) for values in layers)

    def source_of(self, path: str) -> Source:
        """Return where the value of a setting such as `pool.pool_size` came from.

        Raises:
            KeyError: If there is no such setting.
        """
        if path not in _paths():
            raise KeyError(path)
        return self._sources.get(path, DEFAULT)

    def value_of(self, path: str) -> Any:
        """Return the value of a setting such as `pool.pool_size`."""
        group, _, field = path.partition(".")
        return getattr(getattr(self, group), field)

    def files(self) -> dict[str, Path]:
        """Return the files that were read, by layer."""
        return dict(self._files)

    def secrets(self) -> list[str]:
        """Return every secret value, for tests of what must not be written."""
        values = (self.value_of(path) for path in self.secret_paths())
        return [secret.get_secret_value() for secret in values]

    def secret_paths(self) -> list[str]:
        """Return the settings that hold a secret now."""
        return [p for p in _paths() if isinstance(self.value_of(p), SecretStr)]

    def check(self, target: str | None = None) -> None:
        """Check that a target has what it needs.

        Args:
            target: The target that was resolved; default the one in the settings.
                `auto` needs nothing.

        Raises:
            ConfigError: If a setting it needs is missing or contradicts another.
        """
        from harness.settings.checks import target_problems  # it reads this module

        problems = target_problems(self, target or self.target.target)
        if problems:
            raise ConfigError("\n".join(problem.text for problem in problems))


@cache
def _paths() -> tuple[str, ...]:
    return tuple(
        f"{group}.{name}"
        for group, model in groups().items()
        for name in model.model_fields
    )


def groups() -> dict[str, type[Group]]:
    """Return the model of each group of settings."""
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group)
    }

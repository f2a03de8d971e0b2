"""What is allowed and yet unwise: warnings and recommendations on settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from harness.settings.model import Settings

POOL_SIZE_RECOMMENDED = 10
RECYCLE_MAX_S = 3600

# What a repository must ignore so that neither secrets nor results get into it.
IGNORED_PATTERNS = (
    ".env",
    "lakegauge.json",
    "*.conf",
    "benchmark_results/",
    "results/",
)
_READABLE_BY_OTHERS = 0o044


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigurationStatus:
    """How sound the settings are; `valid` means that there are no errors."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    recommendations: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether nothing must be changed."""
        return not self.errors


@dataclass(frozen=True, kw_only=True, slots=True)
class SecurityStatus:
    """How well secrets are kept; `secure` means that there are no issues."""

    issues: tuple[str, ...]
    recommendations: tuple[str, ...]

    @property
    def secure(self) -> bool:
        """Whether no issue was found."""
        return not self.issues


def validate_configuration(settings: Settings) -> ConfigurationStatus:
    """Judge settings that are valid one by one."""
    errors: list[str] = []
    warnings: list[str] = []
    recommendations: list[str] = []
    pool, monitoring = settings.pool, settings.monitoring
    if settings.security.log_credentials:
        errors.append(
            "LOG_CREDENTIALS is true: credentials are never logged; set it to false"
        )
    if not settings.security.ssl_require:
        warnings.append("SSL_REQUIRE is false: data and passwords may travel in clear")
    if pool.pool_recycle_interval > RECYCLE_MAX_S:
        warnings.append(
            f"DB_POOL_RECYCLE_INTERVAL is {pool.pool_recycle_interval:g} s: "
            f"a token lives {RECYCLE_MAX_S} s at most; use less"
        )
    if pool.pool_size < POOL_SIZE_RECOMMENDED:
        recommendations.append(
            f"DB_POOL_SIZE is {pool.pool_size}: production pools hold "
            f"{POOL_SIZE_RECOMMENDED} connections or more"
        )
    if not (
        monitoring.enable_performance_monitoring and monitoring.enable_health_checks
    ):
        recommendations.append(
            "monitoring is switched off: set ENABLE_PERFORMANCE_MONITORING and "
            "ENABLE_HEALTH_CHECKS to true"
        )
    return ConfigurationStatus(
        errors=tuple(errors),
        warnings=tuple(warnings),
        recommendations=tuple(recommendations),
    )


def check_security_status(settings: Settings, *, root: Path) -> SecurityStatus:
    """Judge where secrets are kept.

    Args:
        settings: The settings that were loaded.
        root: The project's root; its `.gitignore` is read if it is a git clone.
    """
    issues: list[str] = []
    recommendations: list[str] = []
    for layer, file in settings.files().items():
        sources = (settings.source_of(path) for path in settings.secret_paths())
        holds_secrets = any(source.file == file for source in sources)
        mode = file.stat().st_mode & 0o777
        if holds_secrets and mode & _READABLE_BY_OTHERS:
            issues.append(
                f"{file} holds secrets and others may read it (mode {mode:o}): "
                f"run `chmod 600 {file}`"
            )
        if holds_secrets and layer == "JSON file":
            recommendations.append(
                f"{file} holds secrets: keep them in the environment or in .env"
            )
    if (root / ".git").exists():
        ignore = root / ".gitignore"
        text = ignore.read_text(errors="replace") if ignore.is_file() else ""
        ignored = {line.strip().lstrip("/") for line in text.splitlines()}
        missing = [p for p in IGNORED_PATTERNS if p not in ignored]
        if missing:
            recommendations.append(f"add to {ignore}: {' '.join(missing)}")
    return SecurityStatus(issues=tuple(issues), recommendations=tuple(recommendations))

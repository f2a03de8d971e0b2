"""What a setting is made of: its names, its help text and its kind of value."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_core import PydanticCustomError

_PLACEHOLDER = re.compile(
    r"""<[^<>]*>                       # <your-token>
    |   \$\{[^{}]*\} | \{\{.*\}\}      # ${TOKEN}, {{ token }}: never expanded here
    |   your[-_ ].* | .*[-_ ]here      # your_password_here
    |   change[-_ ]?me | replace[-_ ]?me | x{3,} | \.{3} | todo
    """,
    re.IGNORECASE | re.VERBOSE,
)
_PLACEHOLDER_IN_URL = re.compile(r"<[^<>]*>|//your[-_]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """The names and the help text of one setting.

    Attributes:
        env: Environment variable, first of `aliases` to show.
        help: What it means, one sentence, unit included.
        aliases: Other variables of the same rank; two that disagree are an error.
        fallbacks: Variables shared with other software, read after the others.
        json: Key in the JSON file where it is not the field's own name.
        option: pytest option that sets it.
        used: False where it is only kept for compatibility so far.
    """

    env: str
    help: str
    aliases: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    json: str | None = None
    option: str | None = None
    used: bool = True


@dataclass(frozen=True, slots=True)
class Kind:
    """What a right value looks like; completes the sentence "must be ..."."""

    text: str


class Group(BaseModel):
    """Settings of one subject: frozen, and no key it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )


def _not_a_bool(value: Any) -> Any:
    """A JSON `true` is no number, whatever Python says."""
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "a boolean is no number")
    return value


def _split(value: Any) -> Any:
    """Take `10,20,40` as well as `[10, 20, 40]`."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text  # no list: refused by the type
    return [part.strip() for part in text.split(",")]


def _real(value: Any) -> Any:
    """Refuse the placeholder of a template: it would fail much later, elsewhere."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str):
        if not value.strip():
            raise PydanticCustomError("empty", "is empty; remove it or give a value")
        if _PLACEHOLDER.fullmatch(value.strip()):
            raise PydanticCustomError(
                "placeholder", "is a template placeholder; put the real value here"
            )
    return value


def _url(value: Any) -> Any:
    """Take a host as https, drop the trailing slash, refuse a user or password."""
    if not isinstance(value, str):
        return value
    url = value.strip().rstrip("/")
    if "://" not in url:
        url = f"https://{url}"
    if _PLACEHOLDER_IN_URL.search(url):
        raise PydanticCustomError(
            "placeholder", "is a template placeholder; put the real value here"
        )
    if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#@\s]*)?", url):
        raise PydanticCustomError("url", "is not a plain web address")
    return url


_NUMBER = BeforeValidator(_not_a_bool)
_TEXT = BeforeValidator(_real)

Size = Annotated[int, Field(ge=0), _NUMBER, Kind("a whole number of at least 0")]
Count = Annotated[int, Field(ge=1), _NUMBER, Kind("a whole number of at least 1")]
Counts = Annotated[
    tuple[Count, ...],
    Field(min_length=1),
    BeforeValidator(_split),
    Kind("whole numbers of at least 1, such as 10,20,40 or [10, 20, 40]"),
]
Hosts = Annotated[
    tuple[Annotated[str, _TEXT], ...],
    BeforeValidator(_split),
    Kind("host names or addresses, such as db.internal,10.0.0.7; [] for none"),
]
Seconds = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    _NUMBER,
    Kind("a number of seconds above 0"),
]
Delay = Annotated[
    float,
    Field(ge=0, allow_inf_nan=False),
    _NUMBER,
    Kind("a number of seconds of at least 0"),
]
Port = Annotated[
    int, Field(ge=1, le=65535), _NUMBER, Kind("a port number from 1 to 65535")
]
Flag = Annotated[bool, Kind("true or false")]
Text = Annotated[str, _TEXT, Kind("a text")]
Url = Annotated[
    str,
    BeforeValidator(_url),
    _TEXT,
    Kind("an address such as https://host, without user or password"),
]
Folder = Annotated[Path, _TEXT, Kind("a folder")]
File = Annotated[Path, _TEXT, Kind("a file")]
Secret = Annotated[SecretStr, _TEXT, Kind("a secret text")]

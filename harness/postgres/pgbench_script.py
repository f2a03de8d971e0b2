r"""pgbench's script language: the part of it that most scripts use.

`\set` with arithmetic and the random functions, `\sleep`, and SQL with `:variables`,
which are not looked for inside quotes. Everything else is refused with file and line:
a script that is half understood measures something else.
"""

from __future__ import annotations

import ast
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

Variables = dict[str, int | float]
Evaluate = Callable[[Variables, random.Random], int | float]

SUPPORTED = r"\set, \sleep and SQL"
SLEEP_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
VARIABLE = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")
# What a colon means nothing in: strings, quoted names, comments.
OPAQUE = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$",
    re.DOTALL,
)
# The beginning of one that goes on in the next line.
OPEN = re.compile(r"'|\"|/\*|\$\w*\$")
ZIPF_MIN, ZIPF_MAX = 1.001, 1000.0
GAUSSIAN_MIN = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Set:
    r"""`\set name expression`."""

    name: str
    evaluate: Evaluate


@dataclass(frozen=True, kw_only=True, slots=True)
class Sleep:
    r"""`\sleep number unit`, in seconds."""

    evaluate: Evaluate


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """One SQL command.

    Attributes:
        query: With `%s` in place of each variable.
        names: The variables, in that order.
    """

    query: str
    names: tuple[str, ...]


Step = Set | Sleep | Statement


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """A script that was understood.

    Attributes:
        text: As it was read.
        source: File name, for messages.
        steps: What to do, in order.
        variables: Names that somebody else has to give, such as `scale`.
    """

    text: str
    source: str
    steps: tuple[Step, ...]
    variables: frozenset[str]

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads the text again: functions are not sent."""
        return parse_script, (self.text, self.source)


def read_script(path: Path) -> Script:
    """Read a script file.

    Raises:
        ConfigError: It cannot be read, or has something that is not supported; the
            message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the pgbench script {path}: {error}"
        raise ConfigError(msg) from None
    return parse_script(text, str(path))


def parse_script(text: str, source: str = "script") -> Script:
    """Understand the text of a script.

    Raises:
        ConfigError: It has something that is not supported, or no SQL.
    """
    steps: list[Step] = []
    known: set[str] = set()
    wanted: set[str] = set()
    sql: list[str] = []
    sql_line = 0
    lines = _joined_lines(text)
    for number, line in lines:
        where = f"{source}:{number}"
        if line.lstrip().startswith("\\"):
            if _has_sql("".join(sql)):
                msg = f"{source}:{sql_line}: the statement has no semicolon at its end"
                raise ConfigError(msg)
            sql.clear()
            step, used = _meta_command(line.strip(), where)
            wanted |= used - known
            if isinstance(step, Set):
                known.add(step.name)
            steps.append(step)
            continue
        if not "".join(sql).strip():
            sql_line = number
        sql.append(line + "\n")
        whole = "".join(sql)
        pieces = _split_statements(whole)
        for piece in pieces[:-1]:
            steps += _statement(piece, known, wanted)
        sql = [pieces[-1]]
    steps += _statement("".join(sql), known, wanted)
    if not any(isinstance(step, Statement) for step in steps):
        msg = f"{source}: the script has no SQL statement"
        raise ConfigError(msg)
    return Script(
        text=text, source=source, steps=tuple(steps), variables=frozenset(wanted)
    )


def _joined_lines(text: str) -> list[tuple[int, str]]:
    """Return numbered lines; a meta command goes on after a backslash at its end."""
    found: list[tuple[int, str]] = []
    pending: tuple[int, str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        first, start = (number, line) if pending is None else pending
        whole = line if pending is None else f"{start} {line}"
        if whole.lstrip().startswith("\\") and whole.rstrip().endswith("\\"):
            pending = (first, whole.rstrip()[:-1])
            continue
        found.append((first, whole))
        pending = None
    if pending is not None:
        found.append(pending)
    return found


def _split_statements(text: str) -> list[str]:
    """Split at semicolons outside of strings and comments; the last is the rest."""
    masked = OPAQUE.sub(lambda match: "x" * len(match[0]), text)
    # A string or comment that goes on in the next line must not be cut inside.
    if OPEN.search(masked):
        return [text]
    pieces, start = [], 0
    for match in re.finditer(";", masked):
        pieces.append(text[start : match.start()])
        start = match.end()
    return [*pieces, text[start:]]


def _has_sql(text: str) -> bool:
    """Tell whether there is more than white space and comments."""

    def keep(match: re.Match[str]) -> str:
        return "" if match[0].startswith(("--", "/*")) else match[0]

    return bool(OPAQUE.sub(keep, text).strip())


def _statement(text: str, known: set[str], wanted: set[str]) -> list[Step]:
    """Return the one statement of *text*, or none if it is only white space."""
    if not _has_sql(text):
        return []
    names: list[str] = []

    def replace(piece: str) -> str:
        def take(match: re.Match[str]) -> str:
            names.append(match[1])
            return "%s"

        return VARIABLE.sub(take, piece.replace("%", "%%"))

    parts, start = [], 0
    for match in OPAQUE.finditer(text):
        parts += [replace(text[start : match.start()]), match[0].replace("%", "%%")]
        start = match.end()
    parts.append(replace(text[start:]))
    wanted |= set(names) - known
    query = "".join(parts).strip()
    # Without parameters the driver takes the text as it is.
    return [
        Statement(
            query=query if names else query.replace("%%", "%"), names=tuple(names)
        )
    ]


def _meta_command(line: str, where: str) -> tuple[Step, set[str]]:
    name, _, rest = line[1:].partition(" ")
    if name == "set":
        match = re.fullmatch(r"\s*([A-Za-z_]\w*)\s+(.+)", rest)
        if match is None:
            msg = rf"{where}: expected \set name expression, got {line!r}"
            raise ConfigError(msg)
        evaluate, used = _expression(match[2], where)
        return Set(name=match[1], evaluate=evaluate), used
    if name == "sleep":
        match = re.fullmatch(r"\s*(:?\w+)\s*(us|ms|s)?\s*", rest)
        if match is None:
            msg = rf"{where}: expected \sleep number [us|ms|s], got {line!r}"
            raise ConfigError(msg)
        unit_s = SLEEP_UNITS_S[match[2] or "s"]
        amount, used = _expression(match[1], where)
        return Sleep(evaluate=lambda v, r: amount(v, r) * unit_s), used
    msg = rf"{where}: \{name} is not supported; {SUPPORTED} are"
    raise ConfigError(msg)


def _expression(text: str, where: str) -> tuple[Evaluate, set[str]]:
    """Compile an arithmetic expression; return it and the variables it uses."""
    # Python's grammar has the same precedence; variables become plain names.
    python = VARIABLE.sub(r"v_\1", text.strip())
    try:
        tree = ast.parse(python, mode="eval")
    except SyntaxError:
        msg = f"{where}: cannot read the expression {text.strip()!r}"
        raise ConfigError(msg) from None
    used: set[str] = set()

    def build(node: ast.expr) -> Evaluate:
        match node:
            case ast.Constant(value=bool()):
                pass
            case ast.Constant(value=int() | float() as value):
                return lambda _v, _r: value
            case ast.Name(id=name) if name.startswith("v_"):
                used.add(name[2:])
                return lambda v, _r: v[name[2:]]
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                inner = build(operand)
                factor = -1 if isinstance(sign, ast.USub) else 1
                return lambda v, r: factor * inner(v, r)
            case ast.BinOp(left=left, op=operator, right=right) if (
                type(operator) in OPERATORS
            ):
                function = OPERATORS[type(operator)]
                first, second = build(left), build(right)
                return lambda v, r: function(first(v, r), second(v, r))
            case ast.Call(func=ast.Name(id=called), args=args, keywords=[]) if (
                called in FUNCTIONS and len(args) in FUNCTIONS[called][0]
            ):
                call, given = FUNCTIONS[called][1], [build(arg) for arg in args]
                return lambda v, r: call(r, *(arg(v, r) for arg in given))
        part = ast.unparse(node).replace("v_", ":")
        msg = (
            f"{where}: {part!r} is not supported in an expression; numbers, "
            f":variables, + - * / % and {', '.join(sorted(FUNCTIONS))} are"
        )
        raise ConfigError(msg)

    evaluate = build(tree.body)
    return evaluate, used


def _divide(first: float, second: float) -> int | float:
    """Divide as pgbench does: whole numbers towards 0."""
    if isinstance(first, int) and isinstance(second, int):
        quotient = abs(first) // abs(second)
        return quotient if (first < 0) == (second < 0) else -quotient
    return first / second


def _modulo(first: float, second: float) -> int:
    """Return the rest, with the sign of the first, as in C."""
    return int(math.fmod(int(first), int(second)))


def _uniform(source: random.Random, low: float, high: float) -> int:
    _check(high >= low, f"random({low}, {high}): the upper bound is below the lower")
    return source.randint(int(low), int(high))


def _exponential(source: random.Random, low: float, high: float, shape: float) -> int:
    _check(shape > 0, f"random_exponential: the parameter must be > 0, got {shape}")
    cut = math.exp(-shape)
    share = -math.log(cut + (1 - cut) * (1 - source.random())) / shape
    return int(low) + int((int(high) - int(low) + 1) * share)


def _gaussian(source: random.Random, low: float, high: float, shape: float) -> int:
    _check(
        shape >= GAUSSIAN_MIN,
        f"random_gaussian: the parameter must be >= {GAUSSIAN_MIN}, got {shape}",
    )
    value = source.gauss(0, 1)
    while not -shape <= value < shape:
        value = source.gauss(0, 1)
    share = (value + shape) / (shape * 2)
    return int(low) + int((int(high) - int(low) + 1) * share)


def _zipfian(source: random.Random, low: float, high: float, shape: float) -> int:
    """Draw a rank by rejection (Devroye 1986, p. 550), as pgbench does."""
    _check(
        ZIPF_MIN <= shape <= ZIPF_MAX,
        f"random_zipfian: the parameter must be {ZIPF_MIN} to {ZIPF_MAX:g}, "
        f"got {shape}",
    )
    count = int(high) - int(low) + 1
    border = 2.0 ** (shape - 1)
    while True:
        # From above 0 to 1: a power of 0 below 0 is none.
        uniform, other = 1 - source.random(), source.random()
        rank: int = math.floor(uniform ** (-1 / (shape - 1)))
        ratio = (1 + 1 / rank) ** (shape - 1)
        if other * rank * (ratio - 1) / (border - 1) <= ratio / border and (
            rank <= count
        ):
            return int(low) + rank - 1


def _check(holds: bool, message: str) -> None:  # noqa: FBT001 - a condition
    if not holds:
        raise ConfigError(message)


OPERATORS: dict[type[ast.operator], Callable[..., int | float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: _divide,
    ast.Mod: _modulo,
}
# Name, how many arguments it takes, and what it does.
FUNCTIONS: dict[str, tuple[range, Callable[..., int | float]]] = {
    "abs": (range(1, 2), lambda _r, a: abs(a)),
    "double": (range(1, 2), lambda _r, a: float(a)),
    "greatest": (range(1, 99), lambda _r, *a: max(a)),
    "int": (range(1, 2), lambda _r, a: int(a)),
    "least": (range(1, 99), lambda _r, *a: min(a)),
    "mod": (range(2, 3), lambda _r, a, b: _modulo(a, b)),
    "random": (range(2, 3), _uniform),
    "random_exponential": (range(3, 4), _exponential),
    "random_gaussian": (range(3, 4), _gaussian),
    "random_zipfian": (range(3, 4), _zipfian),
    "sqrt": (range(1, 2), lambda _r, a: math.sqrt(a)),
}

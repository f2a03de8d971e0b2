"""Footnotes in an answer's Markdown: found, and taken out without touching code."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^\s*(?:>\s*)*(`{3,}|~{3,})")
_DEFINITION = re.compile(r"^ {0,3}\[\^([^\]\s]+)\]:")
_REFERENCE = re.compile(r"\[\^([^\]\s]+)\](?!:)")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(?:.|\n(?!\s*\n))+?(?<!`)\1(?!`)")
_LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s")
# Without a definition only what looks like a mark is one: `[^a-z]` in prose is not.
_MARK = re.compile(r"\d+|[A-Za-z0-9]+-\d+")
_INDENT = ("    ", "\t")


def remove_footnotes(text: str) -> str:
    """Return *text* without footnote marks and definitions; code is left as it is.

    A definition goes with the indented lines that continue it.
    """
    prose, code = 0, 1
    parts: list[tuple[int, list[str]]] = []
    for is_code, line in _classified(text):
        kind = code if is_code else prose
        if not parts or parts[-1][0] != kind:
            parts.append((kind, []))
        parts[-1][1].append(line)
    defined: set[str] = set()
    kept: list[tuple[int, str]] = []
    for kind, lines in parts:
        kept.append(
            (kind, "".join(lines if kind == code else _undefined(lines, defined)))
        )
    removed = "".join(
        part if kind == code else _unmarked(part, defined) for kind, part in kept
    )
    return removed if removed == text else removed.rstrip()


def _classified(text: str) -> list[tuple[bool, str]]:
    """Return (whether it is in a code block, line) of every line."""
    found: list[tuple[bool, str]] = []
    fence = ""
    blank_before, in_list, in_definition, indented = True, False, False, False
    for line in text.splitlines(keepends=True):
        opening = _FENCE.match(line)
        if fence:
            found.append((True, line))
            mark = line.strip().lstrip("> ")
            if opening and mark.startswith(fence) and not mark.strip(fence[0]):
                fence = ""
            blank_before = False
            continue
        if opening:
            fence = opening.group(1)
            found.append((True, line))
            continue
        is_blank = not line.strip()
        is_indented = line.startswith(_INDENT) and not is_blank
        if not is_blank and not is_indented:
            in_definition = _DEFINITION.match(line) is not None
            in_list = _LIST_ITEM.match(line) is not None or (
                in_list and not blank_before
            )
        indented = (
            is_indented
            and (blank_before or indented)
            and not in_list
            and not in_definition
        )
        found.append((indented, line))
        blank_before = is_blank
    return found


def _undefined(lines: list[str], defined: set[str]) -> list[str]:
    """Return *lines* without definitions, whose names are added to *defined*."""
    kept: list[str] = []
    waiting: list[str] = []  # blank lines that belong to what comes next
    inside = False
    for line in lines:
        found = _DEFINITION.match(line)
        if found:
            defined.add(found.group(1))
            inside, waiting = True, []
        elif inside and not line.strip():
            waiting.append(line)
        elif inside and line[:1].isspace():
            waiting = []
        else:
            inside = False
            # The blank lines around a definition become those of one side.
            if kept and kept[-1].strip():
                kept += waiting
            kept.append(line)
            waiting = []
    return kept + waiting


def _unmarked(prose: str, defined: set[str]) -> str:
    """Return *prose* without the marks outside its code spans."""
    result: list[str] = []
    end = 0
    for span in _CODE_SPAN.finditer(prose):
        result += [_strip_marks(prose[end : span.start()], defined), span.group()]
        end = span.end()
    return "".join([*result, _strip_marks(prose[end:], defined)])


def _strip_marks(text: str, defined: set[str]) -> str:
    def strip(found: re.Match[str]) -> str:
        name = found.group(1)
        if name in defined or _MARK.fullmatch(name):
            return "\0"
        return found.group()

    marked = _REFERENCE.sub(strip, text)
    # The blank before a mark goes with it where another separator follows.
    return re.sub(r"[ \t]*\0(?=\0|[\s.,;:!?)\]]|$)|\0", "", marked)

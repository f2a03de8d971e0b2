"""What an answer cites: documents, pages and passages, from its annotations."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from harness.agents.json_values import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from harness.agents.answer import Block

_FILES = "/ajax-api/2.0/fs/files"
_PAGE = re.compile(r"(?:^|&)page=(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Citation:
    """One source of one block of an answer.

    Attributes:
        document: Its title, as a rule the file's name.
        path: Its place in a Unity Catalog volume (`/Volumes/...`), if it has one.
        page: The page cited, counted from 1, if said.
        block: Index of the block it belongs to.
        url: Where a person can open it, in the workspace that was asked; without
            the passage. Not in the repr: its query may be a signature.
        passage: The words cited. They are a document's content: not for logs and
            reports, hence not in the repr.
    """

    document: str | None
    path: str | None
    page: int | None
    block: int
    url: str | None = field(repr=False)
    passage: str | None = field(default=None, repr=False)


def citations_of(blocks: Iterable[Block], *, origin: str) -> tuple[Citation, ...]:
    """Return the citations of *blocks*, in order, none twice within a block.

    Args:
        blocks: The blocks of an answer.
        origin: Address of the workspace (`https://host`): the platform names a host
            of its own inside, which no user can open.
    """
    found = [
        citation
        for index, block in enumerate(blocks)
        for note in block.annotations
        if (citation := _citation(note, index, origin)) is not None
    ]
    return tuple(dict.fromkeys(found))


def _citation(note: Mapping[str, Any], block: int, origin: str) -> Citation | None:
    # Chat completions nest it: {"type": "url_citation", "url_citation": {...}}.
    kind = as_text(note.get("type"))
    inner = note.get(kind or "")
    source = inner if isinstance(inner, dict) else note
    title = as_text(source.get("title")) or as_text(source.get("filename"))
    url = as_text(source.get("url"))
    if url is None:
        document = title or as_text(source.get("file_id"))
        if document is None:
            return None
        return Citation(document=document, path=None, page=None, block=block, url=None)
    address, _, fragment = url.partition("#")
    place, _, directive = fragment.partition(":~:")
    page = _PAGE.search(place)
    try:
        parts = urlsplit(address)
        path = unquote(parts.path)
    except ValueError:  # such as a bracket that opens no IPv6 address
        return Citation(document=title, path=None, page=None, block=block, url=None)
    volume: str | None = None
    if _FILES + "/" in path:
        volume = path.partition(_FILES)[2]
        shown = origin + parts.path
    else:
        volume = path if path.startswith("/Volumes/") else None
        host = parts.netloc.rpartition("@")[2]
        query = f"?{parts.query}" if parts.query else ""
        base = f"{parts.scheme}://{host}" if host else origin
        shown = f"{base}{parts.path}{query}"
    return Citation(
        document=title or path.rpartition("/")[2] or None,
        path=volume,
        page=int(page.group(1)) if page else None,
        block=block,
        url=f"{shown}#page={page.group(1)}" if page else shown,
        passage=_passage(directive),
    )


def _passage(directive: str) -> str | None:
    """Return the words of a text fragment: `text=[prefix-,]start[,end][,-suffix]`."""
    for part in directive.split("&"):
        name, _, value = part.partition("=")
        if name != "text" or not value:
            continue
        words = [
            unquote(word)
            for word in value.split(",")
            if word and not word.endswith("-") and not word.startswith("-")
        ]
        return " … ".join(words) or None
    return None

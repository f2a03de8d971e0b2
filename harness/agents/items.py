"""One output item under construction: deltas first, the finished item after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.agents.answer import Block
from harness.agents.json_values import as_list

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT_TYPES = ("output_text", "text")


class Item:
    """One output item.

    Attributes:
        done: Whether the finished item has come.
        marked: Its text with footnote marks, where the finished item differs from
            the deltas.
    """

    def __init__(self) -> None:
        self.done = False
        self.marked: str | None = None
        self._deltas: dict[int, list[str]] = {}
        self._annotations: dict[int, list[Mapping[str, Any]]] = {}
        self._finished: tuple[Block, ...] | None = None

    @property
    def text(self) -> str:
        """The text so far, of all blocks."""
        if self._finished is not None:
            return "".join([block.text for block in self._finished])
        return "".join("".join(parts) for _, parts in sorted(self._deltas.items()))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks so far."""
        if self._finished is not None:
            if not self._annotations:
                return self._finished
            return tuple(
                # Citations may have come as events of their own only.
                block
                if block.annotations
                else Block(text=block.text, annotations=self._noted(index))
                for index, block in enumerate(self._finished)
            )
        return tuple(
            Block(text="".join(parts), annotations=self._noted(index))
            for index, parts in sorted(self._deltas.items())
        )

    def add_delta(self, index: int, delta: str) -> None:
        """Take a piece of the text of block *index*."""
        self._deltas.setdefault(index, []).append(delta)

    def annotate(self, index: int, annotation: object) -> None:
        """Take a citation of block *index*."""
        if isinstance(annotation, dict):
            self._annotations.setdefault(index, []).append(annotation)

    def fill(self, index: int, text: str | None) -> str | None:
        """Take the whole text of a block; return what its deltas did not bring."""
        if index in self._deltas or not text:
            return None
        self._deltas[index] = [text]
        return text

    def finish(self, blocks: tuple[Block, ...]) -> str | None:
        """Take the finished item's blocks; return their text if it is new."""
        self.done = True
        text = "".join([block.text for block in blocks])
        if not self._deltas or text == self.text:
            new = not self._deltas and self._finished is None and bool(text)
            self._finished = blocks
            return text if new else None
        self.marked = text or None
        for index, block in enumerate(blocks):
            if block.annotations and index not in self._annotations:
                self._annotations[index] = list(block.annotations)
        return None

    def _noted(self, index: int) -> tuple[Mapping[str, Any], ...]:
        return tuple(self._annotations.get(index, ()))


def blocks_of(item: Mapping[str, Any]) -> tuple[Block, ...]:
    """Return the text blocks of a finished item, or of a chat message."""
    content = item.get("content")
    if isinstance(content, str):
        return (Block(text=content),)
    blocks: list[Block] = []
    for part in as_list(content):
        # A loop and no generators: this is most of what a whole answer costs.
        if not isinstance(part, dict) or part.get("type") not in _TEXT_TYPES:
            continue
        text = part.get("text")
        if isinstance(text, str):
            notes = part.get("annotations")
            if notes and isinstance(notes, list):
                kept = [note for note in notes if isinstance(note, dict)]
                blocks.append(Block(text, tuple(kept)))
            else:
                blocks.append(Block(text))
    return tuple(blocks)

"""Building HTML as a tree: text and attributes are escaped where it is written out."""

from __future__ import annotations

from harness.reports.page.markup import Child, document, tag

__all__ = ["Child", "document", "tag"]

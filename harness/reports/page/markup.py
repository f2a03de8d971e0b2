"""Building HTML as a tree: text and attributes are escaped where it is written out."""

from __future__ import annotations

from xml.etree import ElementTree as ET

Child = ET.Element | str | None


def tag(tag_name: str, *children: Child, **attributes: str | None) -> ET.Element:
    """Return an element.

    Args:
        tag_name: "td", "svg".
        children: Elements and text in order; None is left out.
        attributes: `class_` is written as class, `aria_label` as aria-label; None
            is left out.
    """
    element = ET.Element(tag_name)
    for name, value in attributes.items():
        if value is not None:
            element.set(name.rstrip("_").replace("_", "-"), value)
    for child in children:
        if isinstance(child, ET.Element):
            element.append(child)
        elif child is not None and len(element):
            element[-1].tail = (element[-1].tail or "") + child
        elif child is not None:
            element.text = (element.text or "") + child
    return element


def document(root: ET.Element) -> str:
    """Return the page as text."""
    return "<!doctype html>\n" + ET.tostring(root, encoding="unicode", method="html")

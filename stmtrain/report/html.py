"""HTML and SVG that is escaped by construction.

:func:`tag` escapes every text and every attribute, except :class:`Markup`, which :func:`tag` itself
has built. A page that consists of such elements has no unescaped text.
"""

from collections.abc import Iterable
from html import escape

_VOID_TAGS = {"br", "col", "img", "link", "meta"}
_RAW_TAGS = {"script", "style"}

Attribute = str | int | float | bool | None


class Markup(str):
    """Text that is already HTML, unlike a plain ``str``."""

    __slots__ = ()


def tag(name: str, /, *children: "str | Iterable[str] | None", **attributes: Attribute) -> Markup:
    """Build one element.

    Args:
        name: Element name, a constant of the program.
        children: Text (escaped), :class:`Markup` (unchanged), iterables of these, or None
            (ignored). The text of ``script`` and ``style`` is not escaped and must be a constant.
        attributes: Escaped and quoted. ``class_`` stands for ``class``, ``aria_label`` for
            ``aria-label``; True gives an attribute without a value, None and False none.
    """
    opening = f"<{name}{''.join(_attribute(k, v) for k, v in attributes.items())}>"
    if name in _VOID_TAGS:
        return Markup(opening)
    if name in _RAW_TAGS:
        return Markup(f"{opening}{''.join(str(child) for child in children)}</{name}>")
    return Markup(f"{opening}{join(*children)}</{name}>")


def join(*children: "str | Iterable[str] | None") -> Markup:
    """Concatenate children, each treated as in :func:`tag`."""
    return Markup("".join(_text(child) for child in children))


def _text(child: "str | Iterable[str] | None") -> str:
    if child is None:
        return ""
    if isinstance(child, str):
        return child if isinstance(child, Markup) else escape(child)
    return join(*child)


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    plain = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {plain}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {plain}="{escape(text)}"'

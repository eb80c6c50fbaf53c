"""HTML and SVG that is escaped by construction.

:func:`tag` escapes every text and every attribute, except :class:`Markup`, which :func:`tag` itself
has built. A page that consists of such elements has no unescaped text.
"""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from importlib import resources

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


def document(title: str, *body: Markup | None) -> str:
    """Return a complete page: one file that needs no network.

    A content security policy names the style sheet and the script by their hashes, so that a
    browser loads and runs nothing else.

    Args:
        title: Its title.
        body: The elements of its body; None is ignored.
    """
    style, script = _asset("report.css"), _asset("report.js")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", style),
    )
    page = tag("html", head, tag("body", *body, tag("script", script)), lang="en")
    return f"<!doctype html>\n{page}\n"


def _policy(style: str, script: str) -> str:
    """Allow only this style sheet, this script and pictures inside the file."""
    styles, scripts = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{styles}'; "
        f"script-src 'sha256-{scripts}'"
    )


def _asset(name: str) -> str:
    return resources.files("stmtrain.report").joinpath("assets", name).read_text(encoding="utf-8")

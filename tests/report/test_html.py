"""Markup: everything is escaped, except what is markup already."""

import html

from hypothesis import given
from hypothesis import strategies as st

from stmtrain.report.html import Markup, join, tag

EVIL = "<script>alert(1)</script>&\"'"


@given(st.text(), st.text())
def test_markup_escapes_what_is_not_markup(text, value):
    made = tag("p", text, title=value)
    assert made == f'<p title="{html.escape(value)}">{html.escape(text)}</p>'
    assert isinstance(made, Markup)
    assert tag("div", made) == f"<div>{made}</div>"
    assert join(made, None, [text, [made]]) == f"{made}{html.escape(text)}{made}"


def test_markup_attributes():
    assert tag("img", class_="a", aria_label="b", hidden=True, alt=None, width=2.50) == (
        '<img class="a" aria-label="b" hidden width="2.5">'
    )
    assert tag("svg", viewBox="0 0 1 1", x=1 / 3) == '<svg viewBox="0 0 1 1" x="0.33"></svg>'

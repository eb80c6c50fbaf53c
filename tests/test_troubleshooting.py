"""The messages on the page of symptoms are those that the program prints."""

import ast
import re

import pytest

from tests.pages import blocks, page_name
from tests.paths import ROOT

SHOWN = [
    line.removeprefix("stm: ")
    for block in blocks("text")
    if page_name(block.page) == "docs/troubleshooting.md"
    for line in block.code.splitlines()
]


def _texts() -> set[tuple[str, ...]]:
    """Every text of the code that has words in it: its parts between what varies."""
    found = set()
    for path in [*(ROOT / "stmtrain").rglob("*.py"), *(ROOT / "stmdata").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            values = node.values if isinstance(node, ast.JoinedStr) else [node]
            parts = [value.value for value in values if isinstance(value, ast.Constant)]
            fixed = tuple(part for part in parts if isinstance(part, str))
            if len(re.findall(r"[a-z]+ ", "".join(fixed))) >= 2:
                found.add(fixed)
    return found


TEXTS = _texts()


def _without(message: str, text: tuple[str, ...]) -> str:
    """Return a message with the parts of a text removed, if all are in it, in their order."""
    rest, end = message, 0
    for part in text:
        start = rest.find(part, end)
        if start < 0:
            return message
        rest, end = rest[:start] + "\n" * len(part) + rest[start + len(part) :], start + len(part)
    return rest


@pytest.mark.parametrize("message", SHOWN)
def test_the_program_can_print_this_message(message: str) -> None:
    """Without the texts of the code, only names and numbers are left of it."""
    left = message
    for text in sorted(TEXTS, key=lambda text: -len("".join(text))):
        left = _without(left, text)
    left = re.sub(r"\S*[/.'=]\S*|<.*>", "", left)
    assert len(re.findall(r"[a-z]{4,}", left)) <= 5, left

"""The form of the documentation: lines of prose that fit a terminal."""

import re
from pathlib import Path

import pytest

from tests.pages import PAGES, page_name
from tests.paths import ROOT


def _prose(page: Path) -> list[tuple[int, str]]:
    """The numbered lines of a page, without its tables and code blocks."""
    text = re.sub(
        r"^```.*?^```",
        lambda block: "\n" * block[0].count("\n"),
        page.read_text(),
        flags=re.M | re.S,
    )
    return [(n, line) for n, line in enumerate(text.splitlines(), 1) if not line.startswith("|")]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_lines_have_at_most_100_characters(page: Path) -> None:
    assert [(number, line) for number, line in _prose(page) if len(line) > 100] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    folders = "stmdata|stmtrain|tests|docs|benchmarks"
    text = page.read_text()
    names = re.findall(rf"(?<![\w/.-])((?:{folders})/[\w/.-]*\w)(?![\w<*-])", text)
    names += [
        name.replace(".", "/") + ".py"
        for name in re.findall(r"python -m ((?:benchmarks|tests)[\w.]+)", text)
    ]
    assert [name for name in names if not (ROOT / name).exists()] == []
    links = [name for name in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in name]
    assert [name for name in links if not (page.parent / name).exists()] == []

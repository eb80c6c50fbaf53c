"""What the pages list is what there is: decisions, the public interface, every page."""

import re

import pytest

import stmdata
import stmtrain
from tests.paths import ROOT

DOCS = ROOT / "docs"


@pytest.mark.parametrize("package", [stmdata, stmtrain], ids=lambda package: package.__name__)
def test_the_reference_has_every_public_name(package) -> None:
    page = (DOCS / "python-reference.md").read_text()
    named = re.findall(rf"^::: {package.__name__}\.(\w+)$", page, re.M)
    assert sorted(named) == sorted(package.__all__)


def test_the_list_of_decisions_is_complete() -> None:
    page = (DOCS / "decisions" / "index.md").read_text()
    decisions = {
        path.name: path.read_text().splitlines()[0].removeprefix("# ").split(" ", 1)[1]
        for path in (DOCS / "decisions").glob("0*.md")
    }
    assert dict(re.findall(r"^\| \[\d+\]\((\S+)\) \| (.*) \|$", page, re.M)) == decisions


def test_the_navigation_names_every_page() -> None:
    outside = re.search(r"OUTSIDE = \{(.*?)\}", (DOCS / "mkdocs_hooks.py").read_text(), re.S)
    assert outside is not None
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    pages |= set(re.findall(r': "(\S+)"', outside[1]))
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    assert set(re.findall(r"[\w./-]+\.md", nav)) == pages

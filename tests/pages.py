"""The pages of the documentation, and the code blocks on them."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT

PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "shards", "tests/golden")),
]
_BLOCK = re.compile(
    r"^(?:<!-- needs: (?P<needs>.*?) -->\n\n?)?```(?P<language>[a-z]*)\n(?P<code>.*?)^```",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        page: The page that shows it.
        line: The number of its first line there.
        language: ``sh``, ``python``, …; empty for what programs print.
        needs: What it cannot run without, as stated by a comment above it; else empty.
        code: Its text.
    """

    page: Path
    line: int
    language: str
    needs: str
    code: str

    @property
    def name(self) -> str:
        """Where it is, for names of tests."""
        return f"{page_name(self.page)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its lines with continuations joined and comments left out."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def page_name(page: Path) -> str:
    """Return the path of a page within the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> list[Block]:
    """Return the code blocks of all pages in some languages."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            if match["language"] in languages:
                line = text.count("\n", 0, match.start("code")) + 1
                needs = match["needs"] or ""
                found.append(Block(page, line, match["language"], needs, match["code"]))
    return found

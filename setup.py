"""The README for the package index, where links and pictures need full addresses.

Everything else about the distribution is in ``pyproject.toml``. The address of the repository is
``Source`` in its ``[project.urls]``; without one the README is used as it is.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)")


def with_addresses(text: str, source: str, version: str) -> str:
    """Point the relative links of a page of the root to the tagged release of a repository."""

    def full(link: re.Match[str]) -> str:
        picture, words, path = link.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({source.rstrip('/')}/{kind}/v{version}/{path})"

    return _LINK.sub(full, text)


def main() -> None:
    """Hand the README to setuptools, which reads the rest itself."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    if source := project.get("urls", {}).get("Source"):
        readme = with_addresses(readme, source, project["version"])
    setup(long_description=readme, long_description_content_type="text/markdown")


if __name__ == "__main__":
    main()

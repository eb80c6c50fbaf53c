"""What a release states of itself, and its README on the package index."""

import re
import runpy
import tomllib

from stmtrain.extras import EXTRAS
from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_states_the_version_and_the_licence() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert f"\nlicense: {PROJECT['license']}\n" in citation


def test_extras_are_those_of_the_error_messages() -> None:
    assert set(EXTRAS) <= set(PROJECT["optional-dependencies"])


def test_every_python_that_is_named_is_allowed() -> None:
    lowest = int(PROJECT["requires-python"].removeprefix(">=3."))
    named = [int(n) for n in re.findall(r"Python :: 3\.(\d+)", " ".join(PROJECT["classifiers"]))]
    assert named == list(range(lowest, lowest + len(named)))


def test_the_readme_of_a_release_has_full_addresses_only() -> None:
    with_addresses = runpy.run_path(str(ROOT / "setup.py"))["with_addresses"]
    readme = with_addresses((ROOT / "README.md").read_text(), "https://host/a/b/", "1.2")
    assert "![" in readme
    for address in re.findall(r"\]\(([^)]*)\)", readme):
        assert address.startswith("https://")
    assert re.search(r"!\[[^\]]*\]\(https://host/a/b/raw/v1\.2/docs/\w+\.(png|gif)\)", readme)
    assert "(https://host/a/b/blob/v1.2/docs/install.md)" in readme

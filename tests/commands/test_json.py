"""``--json``: standard output holds JSON and nothing else, or a file holds it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli


@pytest.fixture(scope="module")
def results(davis_tree: Path) -> list[str]:
    """Score the true masks as results."""
    masks = davis_tree / "Annotations" / "480p"
    return ["score", "--results", str(masks), "--davis", str(davis_tree), "--workers", "1"]


@pytest.mark.parametrize("words", [["--json"], ["--json", "-"], ["--json", "--split", "val"]])
def test_standard_output_holds_nothing_but_json(results: list[str], words: list[str]) -> None:
    done = CliRunner().invoke(cli.app, [*results, *words])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["global"]["J-Mean"] == 1
    assert "score: 1/1 videos" in done.stderr


@pytest.mark.parametrize("form", [("--json", "{}"), ("--json={}",)])
@pytest.mark.parametrize("name", ["scores.json", "scores"])
def test_a_file_holds_what_would_be_printed(
    results: list[str], tmp_path: Path, form: tuple[str, ...], name: str
) -> None:
    path = tmp_path / name
    done = CliRunner().invoke(cli.app, [*results, *(word.format(path) for word in form)])
    assert done.exit_code == 0, done.output
    assert "percent" in done.stdout
    printed = CliRunner().invoke(cli.app, [*results, "--json"]).stdout
    assert path.read_text() == printed

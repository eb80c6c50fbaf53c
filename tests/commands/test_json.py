"""``--json``: standard output holds JSON and nothing else, or a file holds it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import cli
from stmtrain.extras import version
from stmtrain.model import STM


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


def test_version() -> None:
    done = CliRunner().invoke(cli.app, ["--version"])
    assert done.exit_code == 0
    assert done.output == f"stm {version()}\n"


def test_a_damaged_set_is_reported_as_json_too(packed: Path, tmp_path: Path) -> None:
    """The faults are numbers for programs, lines for people, and exit code 1 for both."""
    folder = Path(shutil.copytree(packed, tmp_path / "set"))
    tar = next(folder.glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-600])
    done = CliRunner().invoke(cli.app, ["shards", "verify", str(folder), "--json"])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert not found["intact"]
    assert found["bad_shards"] == [tar.name]
    assert found["faults"][0]["text"] in done.stderr


def test_the_manifest_is_what_info_prints(packed: Path) -> None:
    done = CliRunner().invoke(cli.app, ["shards", "info", "--json", str(packed)])
    found = json.loads(done.stdout)
    assert found.pop("name")
    assert found == json.loads((packed / "manifest.json").read_text())


def test_an_evaluation_prints_what_it_stores(davis_tree: Path, tmp_path: Path) -> None:
    weights, out = tmp_path / "stm.pth", tmp_path / "results"
    torch.save(STM("resnet18").state_dict(), weights)
    words = ["eval", "--checkpoint", weights, "--davis", davis_tree, "--out", out]
    done = CliRunner().invoke(
        cli.app, [*map(str, words), "--workers", "1", "--device", "cpu", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((out / "results.json").read_text())
    info = CliRunner().invoke(cli.app, ["weights", "info", str(weights), "--json"])
    assert json.loads(info.stdout)["backbone"] == "resnet18"

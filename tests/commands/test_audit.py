"""``stm audit``: what is printed, written, and returned as the exit code."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from tests.auditing.faults import COUNT, FAULTS, clean_film


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return clean_film().write(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    root = tmp_path_factory.mktemp("faulty")
    for number in range(14):  # one error and thirteen warnings
        film = clean_film()
        name = "small mask" if number == 13 else "one frame"
        FAULTS[name].inject(film, 1 + number % 13, np.random.default_rng(0))
        film.write(root, f"film{number}")
    return root


def audit(*words):
    return CliRunner().invoke(cli.app, ["audit", *map(str, words), "--workers", "1"])


def test_a_clean_set_passes(clean):
    done = audit(clean)
    assert done.exit_code == 0
    assert f"1 videos, {COUNT} frames, {COUNT} masks: nothing found" in done.stdout
    assert "recognised as own-frames-and-masks" in done.stdout


def test_findings_are_lines_of_which_many_alike_are_counted(faulty):
    done = audit(faulty)
    lines = done.stdout.splitlines()
    short = [line for line in lines if line.startswith("warning: short: ")]
    assert len(short) == 11
    assert "and 3 more" in short[-1]
    (size,) = [line for line in lines if line.startswith("error: size: ")]
    for part in ("film13", "64x48", "128x96", "00001", "export all of them"):
        assert part in size


@pytest.mark.parametrize(
    ("fail_on", "faults", "code"),
    [("error", True, 1), ("warning", True, 1), ("never", True, 0), ("warning", False, 0)],
)
def test_the_exit_code_is_that_of_the_worst_finding(clean, faulty, fail_on, faults, code):
    assert audit(faulty if faults else clean, "--fail-on", fail_on).exit_code == code


def test_a_warning_alone_fails_only_where_that_is_asked_for(tmp_path):
    film = clean_film()
    FAULTS["one frame"].inject(film, 3, np.random.default_rng(0))
    film.write(tmp_path)
    assert audit(tmp_path).exit_code == 0
    assert audit(tmp_path, "--fail-on", "warning").exit_code == 1


def test_json_has_every_finding_with_all_frames(faulty, tmp_path):
    assert audit(faulty, "--json", tmp_path / "a.json").exit_code == 1
    value = json.loads((tmp_path / "a.json").read_text())
    assert value["counts"]["short"] == 13
    assert len(value["findings"]) == sum(value["counts"].values())
    assert value["findings"][0]["severity"] == "error"
    assert value["findings"][0]["frames"] == ["00001"]
    printed = audit(faulty, "--json", "--fail-on", "never")
    assert json.loads(printed.stdout) == value


def test_plots_are_pictures_or_one_page(faulty, tmp_path):
    for name in ("a.png", "a.html"):
        assert audit(faulty, "--plot", tmp_path / name, "--fail-on", "never").exit_code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 400
    page = (tmp_path / "a.html").read_text()
    assert all(f"film{number}" in page for number in range(14))
    assert audit(faulty, "--plot", tmp_path / "a.pdf").exit_code == 2


def test_what_is_no_set_is_refused(tmp_path):
    assert audit(tmp_path / "nothing").exit_code == 1
    assert audit(tmp_path, "--layout", "unknown").exit_code == 2

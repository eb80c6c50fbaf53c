"""``stm stats``: tables, plots, JSON, and what is refused."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

import cli

MORE = ("--sample", "6", "--workers", "1")


def stats(*words):
    return CliRunner().invoke(cli.app, ["stats", *map(str, words), *MORE])


def test_sets_are_shown_side_by_side(packed, clips):
    shown = stats(packed, clips).stdout
    for word in ("davis", "clips", "median", "distance", "area", "IoU", "late"):
        assert word in shown
    alone = stats(packed).stdout
    assert "distance" not in alone


def test_json_is_all_that_standard_output_gets(packed, clips):
    done = stats(packed, clips, "--json")
    value = json.loads(done.stdout)
    assert [one["name"] for one in value["sets"]] == ["davis", "clips"]
    assert value["sets"][1]["statistics"]["objects"]["n"] == value["sets"][1]["measured"] == 6


def test_plots_are_pictures_or_one_page(packed, clips, tmp_path):
    assert stats(packed, clips, "--plot", tmp_path / "a.png").exit_code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 600
    assert stats(packed, clips, "--plot", tmp_path / "a.html").exit_code == 0
    page = (tmp_path / "a.html").read_text()
    assert page.count("<svg") >= 8
    assert "http" not in page.replace("http-equiv", "")


def test_each_set_may_have_its_own_skip(packed, clips):
    value = json.loads(stats(packed, clips, "--json", "--skip", 2, "--skip", 0).stdout)
    assert [one["skip"] for one in value["sets"]] == [2, 0]


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (("--plot", "a.pdf"), "a.pdf: expected"),
        (("--skip", 1, "--skip", 2), "--skip: expected"),
    ],
)
def test_what_makes_no_sense_is_refused(packed, words, meaning):
    done = stats(packed, *words)
    assert done.exit_code == 2
    assert meaning in done.output

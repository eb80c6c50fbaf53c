"""``stm preview``: what is printed or saved, and what is refused."""

import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from tests.shards.test_view import sample, write

KEYS = [f"clip-{i}" for i in range(5)] + ["sparse"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    samples = [sample(key, i) for i, key in enumerate(KEYS[:-1])]
    samples.append(sample("sparse", 9, frames=13, masked=slice(None, None, 5)))
    return write(tmp_path_factory.mktemp("preview") / "set", samples)


def preview(*words):
    return CliRunner().invoke(cli.app, ["preview", *map(str, words)])


def test_samples_are_printed(shards):
    shown = preview(shards, "--key", "clip-0").stdout
    for word in ("clip-0", "00000", "00007", "[1]", "[c=12]"):
        assert word in shown
    assert "clip-1" not in shown
    drawn = preview(shards, "--count", 3, "--seed", 1).stdout
    assert sum(key in drawn for key in KEYS) == 3


def test_saved_sheet_and_animation(shards, tmp_path):
    saved = preview(shards, "--count", 2, "--save", tmp_path / "a.PNG")
    assert "".join(saved.stdout.split()) == f"picture:{tmp_path / 'a.PNG'}"
    with Image.open(tmp_path / "a.PNG") as image:
        assert image.format == "PNG"
        assert image.height > 2 * 180
    preview(shards, "--key", "sparse", "--save", tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 13
    preview(shards, "--key", "sparse", "--frames", 3, "--save", tmp_path / "b.gif")
    with Image.open(tmp_path / "b.gif") as image:
        assert image.n_frames == 3


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--save", "a.jpg", "expected a name that ends in .png or .gif, found '.jpg'"),
        ("--save", "a", "expected a name that ends in .png or .gif, found ''"),
        ("--count", 0, "--count"),
        ("--frames", 0, "--frames"),
    ],
)
def test_what_cannot_be_shown_is_refused(shards, tmp_path, option, value, message):
    if option == "--save":
        value = tmp_path / value
    refused = preview(shards, option, value)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert not list(tmp_path.iterdir())

"""``stm preview``: what is printed or saved, and what is refused."""

import io

import pytest
from PIL import Image
from rich.console import Console

from stmtrain.commands.preview import show as preview
from stmtrain.errors import UsageError
from tests.shards.test_view import sample, write


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    samples = [sample(f"clip-{i}", i) for i in range(5)]
    samples.append(sample("sparse", 9, frames=13, masked=slice(None, None, 5)))
    return write(tmp_path_factory.mktemp("preview") / "set", samples)


def plain_console():
    return Console(width=80, file=io.StringIO(), color_system=None)


def test_samples_are_printed(shards):
    console = plain_console()
    assert preview(shards, key="clip-0", console=console) == ["clip-0"]
    out = console.file.getvalue()
    for word in ("clip-0", "00000", "00007", "[1]", "[c=12]"):
        assert word in out
    keys = preview(shards, count=3, seed=1, console=console)
    assert len(set(keys)) == 3
    assert all(key in console.file.getvalue() for key in keys)


def test_saved_sheet_and_animation(shards, tmp_path):
    console = plain_console()
    keys = preview(shards, count=2, save=tmp_path / "a.PNG", console=console)
    assert len(keys) == 2
    with Image.open(tmp_path / "a.PNG") as image:
        assert image.format == "PNG"
        assert image.height > 2 * 180
    preview(shards, key="sparse", save=tmp_path / "a.gif", console=console)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 13
    preview(shards, key="sparse", frames=3, save=tmp_path / "b.gif", console=console)
    with Image.open(tmp_path / "b.gif") as image:
        assert image.n_frames == 3
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save": "a.jpg"}, r"a\.jpg: expected a name that ends in \.png or \.gif, found '\.jpg'"),
        ({"save": "a"}, r"a: expected a name that ends in \.png or \.gif, found ''"),
        ({"count": 0}, "expected at least one sample and one frame, found 0"),
        ({"frames": 0}, "expected at least one sample and one frame, found 4 and 0"),
    ],
)
def test_what_cannot_be_shown_is_refused(shards, tmp_path, options, message):
    if "save" in options:
        options = {"save": tmp_path / options["save"]}
    with pytest.raises(UsageError, match=message):
        preview(shards, console=plain_console(), **options)
    assert not list(tmp_path.iterdir())

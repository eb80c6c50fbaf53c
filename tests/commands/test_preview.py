"""``stm preview``: what is printed or saved, and what is refused."""

import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from stmdata.commands.preview_options import PROTOCOLS, WORST
from stmtrain.preview.protocol import Protocol
from stmtrain.preview.worst import Worst
from tests.drawn_samples import sample, write

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
    for word in ("clip-0", "set/drawn-000000.tar", "00000", "00007", "[1]", "[c=12]"):
        assert word in shown
    assert "clip-1" not in shown
    assert [key for key in KEYS if key in preview(shards, "--limit", 3).stdout] == KEYS[:3]
    drawn = preview(shards, "--limit", 3, "--random", "--seed", 1).stdout
    assert sum(key in drawn for key in KEYS) == 3
    assert drawn == preview(shards, "--limit", 3, "--random", "--seed", 1).stdout
    assert len({preview(shards, "--random", "--seed", seed).stdout for seed in range(4)}) > 1


def test_several_sets_and_keys_are_shown(shards):
    both = preview(shards, shards, "--key", "sparse", "--key", "clip-2").stdout
    assert both.count("sparse") == both.count("clip-2") == 2


def test_the_hardest_clips_come_first(shards):
    shown = preview(shards, "--worst", "small", "--limit", 1).stdout.replace("\n", " ")
    assert "6/6 clips" in shown
    assert "of a frame at most, set/drawn" in shown
    assert "--key" in preview(shards, "--worst", "small", "--key", "clip-1").stderr
    assert "--worst: expected one of" in preview(shards, "--worst", "far").stderr


def test_a_pipe_gets_few_clips_unless_more_are_asked_for(shards):
    assert sum(key in preview(shards).stdout for key in KEYS) == 4
    assert sum(key in preview(shards, "--limit", 9).stdout for key in KEYS) == 6


def test_saved_sheet_and_animation(shards, tmp_path):
    saved = preview(shards, "--limit", 2, "--save", tmp_path / "a.PNG")
    assert "".join(saved.stdout.split()) == f"saved:{tmp_path / 'a.PNG'}"
    with Image.open(tmp_path / "a.PNG") as image:
        assert image.format == "PNG"
        assert image.height > 2 * 180
    preview(shards, "--key", "sparse", "--save", tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 13
    preview(shards, "--key", "sparse", "--frames", 3, "--save", tmp_path / "b.gif")
    with Image.open(tmp_path / "b.gif") as image:
        assert image.n_frames == 3


def test_pictures_are_sent_as_asked(shards):
    shown = preview(shards, "--limit", 1, "--protocol", "blocks").stdout
    assert "\x1b[38;2;" in shown
    assert "\x1b[38;5;" in preview(shards, "--limit", 1, "--protocol", "blocks256").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--save", "a.jpg"], "expected a name that ends in one of .png, .gif"),
        (["--save", "a"], "found ''"),
        (["--limit", 0], "--limit"),
        (["--frames", 0], "--frames"),
        (["--protocol", "sixel"], "--protocol: expected one of kitty"),
        (["--key", "nope"], "no sample 'nope'"),
    ],
)
def test_what_cannot_be_shown_is_refused(shards, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    refused = preview(shards, *words)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_set_is_needed():
    refused = preview()
    assert refused.exit_code == 2
    assert "expected the folder or URL of a shard set" in refused.stderr


def test_the_shell_offers_what_there_is():
    assert list(Worst) == list(WORST)
    assert list(Protocol) == list(PROTOCOLS)

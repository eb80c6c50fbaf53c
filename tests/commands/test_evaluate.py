"""The command eval: what it prints, and one line for each kind of wrong usage."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import cli
from stmdata.drawn.trees import draw_davis
from stmtrain.datasets.dataset import find_dataset
from stmtrain.model import STM
from tests.datasets.drawn import draw
from tests.datasets.trees import SIZE


def stm(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "r18.pth"
    torch.save(STM("resnet18").state_dict(), path)
    return path


@pytest.fixture(scope="session")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_davis(
        tmp_path_factory.mktemp("davis"), videos=3, val=2, frames=4, size=SIZE, ids=(2, 7, 9)
    )


def test_the_command_says_how_the_numbers_came_about(
    checkpoint: Path, davis: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    base = ("eval", "--checkpoint", checkpoint, "--davis", davis, "--out", out, "--device", "cpu")
    more = ("--memory-every", 2, "--memory-frames", 3, "--top-k", 4, "--flip", "--scales", "1,1.5")
    done = stm(*base, *more, "--workers", 1)
    assert done.exit_code == 0, done.output
    for words in (
        "memory every 2 frames, at most 3 frames in it, the best 4 positions read",
        "scale 1 + scale 1.5 + mirrored, float32",
        "first and last frame not scored",
        "resnet18 after unknown training",
        "frames/s in the network",
        "GiB peak of the process (no GPU)",
    ):
        assert words in done.output
    protocol = json.loads((out / "results.json").read_text())["protocol"]
    assert protocol["memory_every"] == 2
    assert protocol["scales"] == [1.0, 1.5]
    assert protocol["masks_mended"] == []


def test_a_protocol_of_the_results(checkpoint: Path, davis: Path, tmp_path: Path) -> None:
    base = ("eval", "--checkpoint", checkpoint, "--out", tmp_path, "--device", "cpu")
    found = []
    for more in (
        ("--davis", davis),
        ("--videos", davis, "--protocol", "davis2017"),
        ("--davis", davis, "--protocol", "davis2017", "--as-meant"),
    ):
        done = stm(*base, *more, "--workers", 1)
        assert done.exit_code == 0, done.output
        found.append(json.loads((tmp_path / "results.json").read_text())["scores"])
    assert "2 of 2 videos kept" in done.output, "other rules do not change the masks"
    assert [scores["protocol"]["name"] for scores in found] == [
        "davis2017-as-meant",
        "davis2017",
        "davis2017-as-meant",
    ]
    assert found[0] == found[2]
    assert [one["object_id"] for one in found[0]["objects"]] == [2, 7, 2, 7, 9]
    assert len(found[1]["objects"]) == 7 + 9, "the official code counts the ids between, too"
    words = ("score", "--videos", davis, "--protocol", "davis2017", "--results", tmp_path)
    assert stm(*words, "--json", tmp_path / "s.json", "--workers", 1).exit_code == 0
    alone = json.loads((tmp_path / "s.json").read_text())
    assert alone["objects"] == found[1]["objects"]
    assert alone["protocol"]["counted_sha256"] == found[1]["protocol"]["counted_sha256"]


def test_without_the_true_masks_of_a_protocol_videos_are_segmented(
    checkpoint: Path, tmp_path: Path
) -> None:
    root = draw_davis(tmp_path / "tree", videos=2, val=1, frames=4, size=SIZE)
    for kind in ("JPEGImages", "Annotations"):
        (root / "valid").mkdir(exist_ok=True)
        (root / kind / "480p").rename(root / "valid" / kind)
    names = sorted(path.name for path in (root / "valid" / "Annotations").iterdir())
    for name in names:
        for mask in sorted((root / "valid" / "Annotations" / name).iterdir())[1:]:
            mask.unlink()
    listed = {name: {"length": 4, "objects": [1]} for name in names}
    (root / "meta_valid.json").write_text(json.dumps({"videos": listed}))
    base = ("eval", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--device", "cpu")
    done = stm(*base, "--videos", root, "--layout", "mose-v2", "--protocol", "mose2")
    assert done.exit_code == 0, done.output
    assert "submit the results to its server" in done.output
    assert len([*(tmp_path / "out").glob("*/*.png")]) == 4 * len(names)


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        ((), 2, ("expected one of --davis", "found none of them")),
        (("--davis", "{davis}", "--videos", "x"), 2, ("--davis and --videos",)),
        (("--videos", "missing"), 1, ("missing", "expected the folder of a data set")),
        (("--shards", "missing"), 1, ("missing", "expected a folder of shards")),
        (("--shards", "ftp://host/x"), 2, ("ftp://host/x",)),
        (("--shards", "x", "--split", "val"), 2, ("--split", "--shards has no splits")),
        (("--youtube-vos", "missing"), 1, ("missing", "expected the folder of a data set")),
        (("--davis", "{davis}", "--split", "test-dev"), 1, ("2017/test-dev.txt",)),
        (("--davis", "{davis}", "--memory-every", "0"), 2, ("--memory-every", "at least 1")),
        (("--davis", "{davis}", "--scales", "1,x"), 2, ("--scales", "'1,x'")),
        (("--davis", "{davis}", "--scales", "0"), 2, ("--scales", "above 0")),
        (("--davis", "{davis}", "--precision", "half"), 2, ("--precision", "bfloat16")),
        (("--davis", "{davis}", "--export", "x.tar"), 2, ("x.tar", "ends in .zip")),
    ],
)
def test_wrong_usage_is_one_line(
    checkpoint: Path,
    davis: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    parts: tuple[str, ...],
) -> None:
    given = [word.replace("{davis}", str(davis)) for word in words]
    result = stm("eval", "--checkpoint", checkpoint, "--out", tmp_path / "o", *given)
    lines = [line for line in result.output.splitlines() if line.startswith("stm: ")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1
    for part in parts:
        assert part in lines[0]
    assert not (tmp_path / "o").exists()


def test_a_data_set_can_be_named_by_its_layout(davis: Path, tmp_path: Path) -> None:
    results, layout = davis / "Annotations" / "480p", ("--layout", "davis2017")
    outputs = [
        stm("score", "--results", results, *words, "--workers", 1).output.partition("next: ")[0]
        for words in (("--davis", davis), ("--videos", davis, *layout))
    ]
    assert "DAVIS 2017 val" in outputs[0]
    assert outputs[0] == outputs[1]
    options = ("--split", "val", "--workers", 1)
    assert stm("pack-davis", "--root", davis, "--out", tmp_path / "a", *options).exit_code == 0
    named = stm("pack-videos", "--root", davis, *layout, "--out", tmp_path / "b", *options)
    assert named.exit_code == 0, named.output
    a, b = (sorted((tmp_path / name).glob("*.*")) for name in "ab")
    assert [path.read_bytes() for path in a] == [path.read_bytes() for path in b]
    unknown = stm("pack-videos", "--root", davis, "--layout", "x", "--out", tmp_path / "c")
    assert unknown.exit_code == 2
    assert "davis2016, davis2017, " in unknown.output


@pytest.mark.parametrize("layout", ["sav-train", "burst", "visor", "vipseg"])
def test_any_layout_is_segmented_from_its_tree_and_from_shards(
    checkpoint: Path, tmp_path: Path, layout: str
) -> None:
    draw(find_dataset(layout), tmp_path / "tree", "my clip")
    packed = stm("pack-videos", "--root", tmp_path / "tree", "--out", tmp_path / "packed")
    assert packed.exit_code == 0, packed.output
    found = []
    for words in (("--videos", tmp_path / "tree"), ("--shards", tmp_path / "packed")):
        out = tmp_path / words[0]
        done = stm("eval", "--checkpoint", checkpoint, "--out", out, "--device", "cpu", *words)
        assert done.exit_code == 0, done.output
        found.append({p.relative_to(out): p.read_bytes() for p in out.glob("*/*.png")})
        names = out / "object_ids.json"
        ids = json.loads(names.read_text()) if names.exists() else {}
        expected = {
            "sav-train": {"1": "0", "2": "1", "3": "2"},
            "visor": {"1": "thing 1", "2": "thing 2", "3": "thing 3"},
            "vipseg": {"1": "1001", "2": "2002", "3": "3003"},
        }.get(layout)
        assert list(ids.values()) == ([expected] if expected else [])
    assert found[0].keys() == found[1].keys()
    assert found[0]
    if layout != "sav-train":  # frames of a film are encoded in packing
        assert found[0] == found[1]

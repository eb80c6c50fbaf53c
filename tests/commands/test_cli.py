"""The command line: the complete workflow on drawn trees, and one line per kind of bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner, Result

import cli
from stmtrain.model import STM

Tree = Path
SMALL = ("--workers", "1")


def stm(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def refused(result: Result, code: int, *parts: str) -> None:
    """The command ended with ``code`` and one line that has every part; no traceback."""
    lines = [line for line in result.output.splitlines() if line.startswith("stm: ")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1
    assert "Traceback" not in result.output
    for part in parts:
        assert part in lines[0]


@pytest.fixture
def coco(coco_tree: Path, tmp_path: Path) -> Tree:
    return Path(shutil.copytree(coco_tree, tmp_path / "coco"))


@pytest.fixture
def davis(davis_tree: Path, tmp_path: Path) -> Tree:
    return Path(shutil.copytree(davis_tree, tmp_path / "davis"))


@pytest.fixture(scope="module")
def packed(davis_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "davis"
    assert stm("pack-davis", "--root", davis_tree, "--out", out, *SMALL).exit_code == 0
    return out


def prepare(coco: Tree, out: Path, *more: object) -> Result:
    annotations = coco / "annotations" / "instances_train2017.json"
    base = ("prepare-coco", "--images", coco / "train2017", "--annotations", annotations)
    return stm(*base, "--out", out, "--size", 64, "--limit", 4, *SMALL, *more)


def pack(davis: Tree, out: Path, *more: object) -> Result:
    return stm("pack-davis", "--root", davis, "--out", out, *SMALL, *more)


def test_every_command_has_help() -> None:
    names = set(get_command(cli.app).commands)  # type: ignore[attr-defined]
    assert {"prepare-coco", "pack-davis", "pack-youtube-vos", "train", "eval", "shards"} <= names
    for name in names:
        result = stm(name, "--help")
        assert result.exit_code == 0
        assert len(result.output) > 100


def test_prepare_verify_preview_info(coco: Tree, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    made = prepare(coco, out, "--variants", 2)
    assert made.exit_code == 0, made.output
    assert "samples" in made.output
    assert stm("shards", "verify", out).output.endswith("intact\n")
    assert "variants" in stm("shards", "info", out).output
    picture = tmp_path / "sheet.png"
    assert stm("preview", out, "--limit", 2, "--save", picture).exit_code == 0
    with Image.open(picture) as image:
        assert image.width > 100
    assert stm("preview", out, "--limit", 1).exit_code == 0


def test_pack_train_eval_score(packed: Path, davis_tree: Path, tmp_path: Path) -> None:
    run, results = tmp_path / "run", tmp_path / "results"
    size = ("--size", 32, "--batch-size", 1, "--steps", 2)
    net = ("--backbone", "resnet18", "--backbone-weights", "none", "--device", "cpu")
    trained = stm("train", "--shards", packed, "--out", run, "--recipe", "main", *net, *size)
    assert trained.exit_code == 0, trained.output
    checkpoint = run / "checkpoint.pt"
    tree = ("--davis", davis_tree, *SMALL)
    done = stm("eval", "--checkpoint", checkpoint, "--out", results, *tree, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "memory every 5 frames" in done.output
    report = tmp_path / "scores.json"
    tables = tmp_path / "csv"
    written = ("--json", report, "--csv", tables)
    assert stm("score", "--results", results, *written, *tree).exit_code == 0
    assert (tables / "global_results-val.csv").read_text().startswith("J&F-Mean,J-Mean")
    scores = json.loads((results / "results.json").read_text())["scores"]
    assert scores["global"] == json.loads(report.read_text())["global"]


def test_the_recipe_is_shown_as_toml_that_reads_back(tmp_path: Path) -> None:
    shown = stm("prepare-coco", "--show-recipe", "--recipe", "classic")
    assert shown.exit_code == 0
    path = tmp_path / "mine.toml"
    path.write_text(shown.output)
    assert stm("prepare-coco", "--show-recipe", "--recipe", path).output == shown.output


def test_youtube_vos(youtube_vos_tree: Path, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        base = ("pack-youtube-vos", "--root", youtube_vos_tree, "--split", split)
        assert stm(*base, "--out", tmp_path / split, "--resize", 64, *SMALL).exit_code == 0
        assert stm("shards", "verify", tmp_path / split).exit_code == 0


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = stm("--debug", "shards", "info", tmp_path)
    assert result.exception is not None
    assert "no manifest.json" in str(result.exception)


def test_missing_folders(tmp_path: Path, coco: Tree) -> None:
    missing = tmp_path / "missing"
    refused(pack(missing, tmp_path / "o"), 1, str(missing), "expected")
    refused(stm("shards", "verify", missing), 1, str(missing), "expected a folder of shards")
    annotations = coco / "annotations" / "instances_train2017.json"
    base = ("prepare-coco", "--annotations", annotations, "--out", tmp_path / "o")
    refused(stm(*base, "--images", missing), 1, str(missing), "expected a folder of images")


def test_missing_split_list(davis: Tree, tmp_path: Path) -> None:
    (davis / "ImageSets" / "2017" / "train.txt").unlink()
    refused(pack(davis, tmp_path / "o"), 1, "2017/train.txt", "found", "val.txt")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [("{", ("JSON",)), ('{"images": []}', ("annotations",)), ("[]", ("expected",))],
)
def test_bad_annotations(coco: Tree, tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    (coco / "annotations" / "instances_train2017.json").write_text(text)
    refused(prepare(coco, tmp_path / "o"), 1, "instances_train2017.json", *parts)
    assert not (tmp_path / "o" / "manifest.json").exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage", [Path.unlink, _cut, lambda p: p.write_text("no image")], ids=["gone", "cut", "text"]
)
def test_bad_image(coco: Tree, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    image = sorted((coco / "train2017").iterdir())[0]
    damage(image)
    out = tmp_path / "o"
    refused(prepare(coco, out), 1, image.name)
    assert not list(out.glob("*.tar")) or not (out / "manifest.json").exists()
    assert not list(out.glob("*.tmp"))
    skipped = prepare(coco, tmp_path / "p", "--on-bad-image", "skip")
    assert skipped.exit_code == 0, skipped.output
    assert "skipped: unreadable image" in skipped.output


def _first(folder: Path) -> Path:
    return sorted(folder.iterdir())[0]


def _rgb(mask: Path) -> None:
    Image.new("RGB", (112, 80), (128, 0, 0)).save(mask)


def _narrower(mask: Path) -> None:
    Image.fromarray(np.zeros((80, 111), np.uint8)).save(mask)


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (_rgb, ("expected a palette or grey mask", "found mode RGB")),
        (_narrower, ("111x80", "112x80")),
        (Path.unlink, ("expected a mask",)),
        (_cut, ("expected a mask PNG",)),
    ],
    ids=["rgb", "size", "gone", "cut"],
)
def test_bad_mask(
    davis: Tree, tmp_path: Path, damage: Callable[[Path], None], parts: tuple[str, ...]
) -> None:
    damage(_first(davis / "Annotations" / "480p" / "drawn-00"))
    out = tmp_path / "o"
    refused(pack(davis, out), 1, "drawn-00", *parts)
    assert not list(out.glob("*.tar"))
    assert not list(out.glob("*.tmp"))


def test_empty_video_and_frame_without_partner(davis: Tree, tmp_path: Path) -> None:
    frames = davis / "JPEGImages" / "480p"
    frame = _first(frames / "drawn-00")
    frame.unlink()
    refused(pack(davis, tmp_path / "o"), 1, "drawn-00", frame.stem)
    shutil.rmtree(frames / "drawn-00")
    (frames / "drawn-00").mkdir()
    refused(pack(davis, tmp_path / "o"), 1, "drawn-00")


def test_unknown_recipe_and_missing_options(coco: Tree, packed: Path, tmp_path: Path) -> None:
    refused(prepare(coco, tmp_path / "o", "--recipe", "clasic"), 2, "clasic", "classic")
    train = stm("train", "--shards", packed, "--out", tmp_path / "r", "--recipe", "mian")
    refused(train, 2, "mian", "pretrain, main")
    refused(stm("prepare-coco"), 2, "--images")
    assert stm("train").exit_code == 2
    assert stm("nonsense").exit_code == 2


def test_damaged_shards(packed: Path, tmp_path: Path) -> None:
    flipped = Path(shutil.copytree(packed, tmp_path / "flipped"))
    tar = next(flipped.glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[len(data) // 3] ^= 4
    tar.write_bytes(data)
    result = stm("shards", "verify", flipped)
    assert result.exit_code == 1
    assert f"{tar}, sample drawn-" in result.output
    cut = Path(shutil.copytree(packed, tmp_path / "cut"))
    _cut(next(cut.glob("*.tar")))
    train = stm("train", "--shards", cut, "--out", tmp_path / "r", "--backbone-weights", "none")
    refused(train, 1, tar.name, "expected a shard of")
    assert not (tmp_path / "r").exists()


def test_checkpoint_of_another_backbone(packed: Path, davis_tree: Path, tmp_path: Path) -> None:
    weights = tmp_path / "r18.pth"
    torch.save({f"module.{k}": v for k, v in STM("resnet18").state_dict().items()}, weights)
    base = ("train", "--shards", packed, "--out", tmp_path / "r", "--init", weights)
    refused(stm(*base, "--backbone", "resnet50"), 1, "r18.pth", "--backbone resnet18")
    torch.save({"fc.weight": torch.zeros(2)}, weights)
    base = ("eval", "--checkpoint", weights, "--davis", davis_tree, "--out", tmp_path / "e")
    refused(stm(*base), 1, "r18.pth", "expected STM weights")


def test_an_output_folder_of_another_configuration(coco: Tree, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    assert prepare(coco, out).exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    refused(prepare(coco, out, "--seed", 1), 2, str(out), "seed", "--overwrite")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert prepare(coco, out).exit_code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert prepare(coco, out, "--seed", 1, "--overwrite").exit_code == 0

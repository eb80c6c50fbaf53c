"""Repair: bad shards are rebuilt with the same bytes, and nothing else is changed."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import cli
from stmdata.checking.index_tars import index_shards
from stmdata.checking.repair import forget_shards, options_needed, repair
from stmdata.checking.verify import verify
from stmdata.packing.clips import ClipOptions, prepare_masks
from stmdata.packing.pack import Job, SetPlan, pack
from stmdata.synthesis.recipe import RECIPES
from stmtrain.errors import ShardError, UsageError
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample, SampleRecord
from tests.sets import pack_coco, pack_davis, pack_youtube_vos
from tests.soak import shard_faults

Places = Mapping[str, Path]
Made = tuple[Path, Places]


@pytest.fixture(scope="module")
def sets(
    tmp_path_factory: pytest.TempPathFactory,
    coco_tree: Path,
    davis_tree: Path,
    youtube_vos_tree: Path,
) -> dict[str, Made]:
    """One set of every command, each with several shards and settings that are not the defaults."""
    root = tmp_path_factory.mktemp("repair")
    coco = {
        "images": coco_tree / "train2017",
        "annotations": coco_tree / "annotations" / "instances_train2017.json",
    }
    options = ClipOptions(RECIPES["classic"], 2, 4, 64, 5, 8, 80)
    pack_coco(coco_tree, root / "coco", options, limit=11)
    for name in ("images", "masks"):
        (root / "stills" / name).mkdir(parents=True)
    for i, path in enumerate(sorted(coco["images"].iterdir())[:6]):
        shutil.copy(path, root / "stills" / "images" / f"{i}.jpg")
        with Image.open(path) as image:
            mask = np.zeros((image.height, image.width), np.uint8)
        mask[20:90, 30:95] = 255
        Image.fromarray(mask).save(root / "stills" / "masks" / f"{i}.png")
    stills = {"images": root / "stills" / "images", "masks": root / "stills" / "masks"}
    options = ClipOptions(RECIPES["default"], size=64, clips_per_shard=2)
    pack(prepare_masks(stills["images"], stills["masks"], options), root / "masks")
    pack_davis(davis_tree, 2017, "train", root / "davis", 40, workers=1, shard_bytes=1)
    pack_youtube_vos(youtube_vos_tree, "train", root / "ytvos", workers=1, shard_bytes=1)
    return {
        "coco": (root / "coco", coco),
        "masks": (root / "masks", stills),
        "davis": (root / "davis", {"root": davis_tree}),
        "ytvos": (root / "ytvos", {"root": youtube_vos_tree}),
    }


@pytest.fixture
def copy(sets: dict[str, Made], tmp_path: Path) -> Callable[[str], Made]:
    def make(name: str) -> Made:
        folder, places = sets[name]
        return Path(shutil.copytree(folder, tmp_path / name)), places

    return make


def flip(path: Path, byte: int = 700) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 16
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["coco", "masks", "davis", "ytvos"])
def test_bad_shards_are_made_again_as_they_were(copy: Callable[[str], Made], name: str):
    folder, places = copy(name)
    before = shard_faults.load(folder)
    good, bad, worse = (sorted(folder.glob("*.tar")) * 2)[:3]
    flip(bad)
    if worse != good:
        worse.with_suffix(".json").unlink()
    kept = {p: p.stat().st_mtime_ns for p in (good, good.with_suffix(".json"))}
    found = verify(folder)
    assert set(found.bad_shards) == {bad.name, worse.name} - {good.name}
    cache = folder.parent / "cache"
    assert repair(folder, found, places, cache=cache) == []
    assert cache.exists() == (name == "coco")
    assert shard_faults.load(folder) == before
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert verify(folder).faults == ()


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
@pytest.mark.parametrize("damage", [Path.unlink, flip, lambda p: p.write_text("{}")])
def test_a_lost_json_file_needs_no_source(
    copy: Callable[[str], Made], name: str, damage: Callable[[Path], object]
):
    folder, _ = copy("coco")
    before = shard_faults.load(folder)
    damage(folder / name)
    repair(folder, verify(folder), {})
    assert shard_faults.load(folder) == before


def test_wrong_totals_are_summed_again(copy: Callable[[str], Made]):
    folder, _ = copy("davis")
    before = shard_faults.load(folder)
    value = json.loads(before["manifest.json"])
    value["totals"]["frames"] += 1
    (folder / "manifest.json").write_text(json.dumps(value))
    repair(folder, verify(folder), {})
    assert shard_faults.load(folder) == before


def test_without_the_source_nothing_is_touched(copy: Callable[[str], Made]):
    folder, places = copy("coco")
    flip(folder / "coco-000001.tar")
    before = shard_faults.load(folder)
    with pytest.raises(UsageError, match="pass --images and --annotations"):
        repair(folder, verify(folder), {"root": folder, "images": None})
    with pytest.raises(UsageError, match="pass --annotations"):
        repair(folder, verify(folder), {"images": places["images"]})
    assert shard_faults.load(folder) == before


def test_another_source_is_refused_before_anything_is_touched(
    copy: Callable[[str], Made], tmp_path: Path
):
    folder, places = copy("coco")
    flip(folder / "coco-000001.tar")
    before = shard_faults.load(folder)
    other = tmp_path / "instances_train2017.json"
    other.write_bytes(places["annotations"].read_bytes() + b" ")
    with pytest.raises(UsageError, match="another configuration"):
        repair(folder, verify(folder), {**places, "annotations": other})
    assert shard_faults.load(folder) == before


def test_a_repair_that_is_interrupted_goes_on(
    copy: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch
):
    folder, places = copy("ytvos")
    before = shard_faults.load(folder)
    for path in folder.glob("*.tar"):
        flip(path)
    replace = Path.replace

    def stop(path: Path, target: Path) -> Path:
        if target.name.endswith("1.tar"):
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            repair(folder, verify(folder), places)
    with pytest.raises(ShardError, match="incomplete"):
        ShardSet.open(folder)
    repair(folder, verify(folder), places)
    assert shard_faults.load(folder) == before


def test_forgotten_shards_are_made_by_the_first_command(copy: Callable[[str], Made]):
    folder, places = copy("davis")
    before = shard_faults.load(folder)
    bad = sorted(folder.glob("*.tar"))[1]
    flip(bad)
    (folder / "config.json").unlink()
    forget_shards(folder, verify(folder))
    assert bad.exists()
    assert not bad.with_suffix(".json").exists()
    with pytest.raises(ShardError, match="incomplete"):
        ShardSet.open(folder)
    pack_davis(places["root"], 2017, "train", folder, 40, workers=1, shard_bytes=1)
    assert shard_faults.load(folder) == before


def test_shards_that_come_out_otherwise_are_named(
    copy: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch
):
    """Another release, or another version of a library, made the set."""
    folder, places = copy("davis")
    bad = sorted(folder.glob("*.tar"))[1]
    flip(bad)
    monkeypatch.setattr("stmdata.packing.video_samples.encode_mask", _slower_png)
    assert repair(folder, verify(folder), places) == [bad.name]
    assert verify(folder).faults == ()


def _slower_png(mask: np.ndarray) -> bytes:  # type: ignore[type-arg]
    from stmtrain.images.encode import encode_mask

    return encode_mask(mask, level=0)


def test_two_sets_in_one_folder_are_not_guessed_about(copy: Callable[[str], Made]):
    folder, _ = copy("davis")
    other, _ = copy("ytvos")
    os.replace(other / "config.json", folder / "config.json")  # noqa: PTH105
    with pytest.raises(UsageError, match="belongs to another set than manifest"):
        repair(folder, verify(folder), {})


def test_sets_that_no_command_made(tmp_path: Path, sets: dict[str, Made]):
    record = SampleRecord("a", 1, 1, ("0",), (), (), (), (1, 1))
    pack(
        SetPlan({"by": "me"}, [Job("a", (1,))], lambda _: [Sample(record, {"0": b""}, {})]),
        tmp_path / "own",
    )
    with pytest.raises(UsageError, match="no command of stm made this set"):
        repair(tmp_path / "own", verify(tmp_path / "own"), {})
    (tmp_path / "tars").mkdir()
    for path in sets["davis"][0].glob("*.tar"):
        shutil.copy(path, tmp_path / "tars")
    index_shards(tmp_path / "tars")
    flip(next((tmp_path / "tars").glob("*.tar")))
    with pytest.raises(UsageError, match="the tars come from another program"):
        repair(tmp_path / "tars", verify(tmp_path / "tars"), {})


@pytest.mark.parametrize("name", ["coco", "masks", "davis", "ytvos"])
def test_the_options_are_those_that_made_it(sets: dict[str, Made], name: str):
    folder, places = sets[name]
    assert set(options_needed(verify(folder).config.config)) == set(places)


# --- commands -------------------------------------------------------------------------------------


def stm(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_the_commands(copy: Callable[[str], Made]):
    folder, places = copy("davis")
    before = shard_faults.load(folder)
    bad = sorted(folder.glob("*.tar"))[1]
    flip(bad)
    verified = stm("shards", "verify", folder, "--workers", 1)
    assert verified.exit_code == 1
    assert f"{bad}, sample drawn-01, member 00000.jpg, bytes 512 to " in verified.output
    assert "1 shards to rebuild" in verified.output
    listed = stm("shards", "repair", folder, "--workers", 1)
    assert listed.exit_code == 2
    assert f"to rebuild: {bad.name}" in listed.output
    assert "pass --root to rebuild the bad shards" in listed.output
    repaired = stm("shards", "repair", folder, "--root", places["root"], "--workers", 1)
    assert repaired.exit_code == 0
    assert repaired.output.endswith("1 shards rebuilt; the set is complete\n")
    assert shard_faults.load(folder) == before
    assert "0 shards rebuilt" in stm("shards", "repair", folder, "--workers", 1).output
    flip(bad)
    forgotten = stm("shards", "repair", folder, "--forget", "--workers", 1)
    assert "run the command that made it again" in forgotten.output
    assert not (folder / "manifest.json").exists()


def test_the_index_command(sets: dict[str, Made], tmp_path: Path):
    for path in sets["coco"][0].glob("*.tar"):
        shutil.copy(path, tmp_path)
    result = stm("shards", "index", tmp_path, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "indexed" in result.output
    assert stm("shards", "verify", tmp_path, "--workers", 1).exit_code == 0

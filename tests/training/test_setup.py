"""Options become shard sets with weights and a model, or are refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.errors import DataError, UsageError
from stmtrain.shards.sample import Sample, SampleRecord
from stmtrain.train import train
from stmtrain.training import setup
from stmtrain.training.recipe import TrainRecipe
from stmtrain.training.setup import open_data, parse_shards
from tests.training.runs import EVERYTHING, options


def test_shard_sets_are_folders_with_weights() -> None:
    assert parse_shards(["a", "b=0.5", "c=d=2"]) == (
        (Path("a"), Path("b"), Path("c=d")),
        (1.0, 0.5, 2.0),
    )
    for bad, message in (("a=x", "with a number"), ("a=0", "above 0"), ("a=nan", "above 0")):
        with pytest.raises(UsageError, match=message):
            parse_shards([bad])


def test_an_unknown_backbone_is_a_usage_error(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--backbone vgg: expected one of resnet50"):
        train(options(shards, tmp_path, backbone="vgg"), EVERYTHING, lambda *_: None)
    assert not list(tmp_path.iterdir())


def _videos(job: Job) -> Iterator[Sample]:
    """Samples of as many frames and masks as their items say; that of 9 shows it in the middle."""
    for count in job.items:
        names = tuple(f"{t:05d}" for t in range(count))
        shown = [t == 4 or count < 9 for t in range(count)]
        record = SampleRecord(
            f"v{count}", 4, 4, names, names, (1,), (tuple(map(int, shown)),), (4, 4)
        )
        yield Sample(record, dict.fromkeys(names, b"j"), dict.fromkeys(names, b"p"))


@pytest.mark.parametrize(("frames", "named"), [(2, set()), (4, {"v2", "v3"}), (5, {"v2", "v3"})])
def test_samples_without_a_clip_are_named_for_the_frames_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, named: set[str]
) -> None:
    """Of a set whose packing noted nothing, each sample is checked, unless there are too many."""
    pack(SetPlan({"of": 1}, [Job("v-0", (2, 3, 5, 9))], _videos), tmp_path / "s")
    data = open_data(options(tmp_path / "s", tmp_path / "o"), TrainRecipe())
    found = " ".join(data.notes(frames)).removeprefix(str(tmp_path))
    assert {key for key in ("v2", "v3", "v5", "v9") if key in found} == named
    with pytest.raises(DataError, match=r"clips of 6 frames, found none among 4; .*--set frames="):
        list(data.notes(6))
    monkeypatch.setattr(setup, "_MOST_CHECKED", 3)
    assert not list(data.notes(6))


def test_pseudo_videos_are_known_by_their_configuration(tmp_path: Path) -> None:
    pack(SetPlan({"frames": 3}, [Job("v-0", (3, 4))], _videos), tmp_path / "s")
    data = open_data(options(tmp_path / "s", tmp_path / "o"), TrainRecipe())
    assert not list(data.notes(3))
    assert "fewer than 4 frames with a mask: v3" in " ".join(data.notes(4))

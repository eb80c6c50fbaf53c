"""The preview of training shows the loader's batches, to the pixel."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cli
from stmtrain.errors import UsageError
from stmtrain.images.draw import ClipView
from stmtrain.preview.clips import Clips
from stmtrain.shards.reader import ShardSet
from stmtrain.streaming.augment import augment
from stmtrain.streaming.batch import Batch
from stmtrain.streaming.loader import Loader
from stmtrain.train import train
from stmtrain.training import step as training_step
from stmtrain.training.as_trained import trained_clips
from stmtrain.training.data_file import read_data, write_data
from stmtrain.training.recipe import MAIN, PRETRAIN, TrainRecipe
from stmtrain.training.setup import TrainOptions, build_loader, open_data
from tests.training.runs import RECIPE, options

Crops = tuple[Sequence[str], torch.Tensor, torch.Tensor]


def same_pixels(views: Sequence[ClipView], crops: Crops) -> None:
    """Check that views show what a step of training computes with."""
    keys, frames, masks = crops
    assert [view.caption.split(" ")[0] for view in views] == list(keys)
    for i, view in enumerate(views):
        exact = frames[i].permute(0, 2, 3, 1).numpy() * 255
        assert np.abs(np.stack(view.frames) - exact).max() <= 0.5001
        shown = np.stack([mask for mask in view.masks if mask is not None])
        np.testing.assert_array_equal(shown, masks[i].numpy())
        assert set(np.unique(shown).tolist()) - {0, 255} <= set(view.object_ids)


def crops_of(batch: Batch, size: int) -> Crops:
    return (batch.keys, *(part.clone() for part in augment(batch, size)))


@pytest.mark.parametrize("base", [PRETRAIN, MAIN])
def test_a_step_shows_the_batch_of_the_loader(base: TrainRecipe, shards: Path, clips: Path) -> None:
    recipe = replace(base, size=64, batch_size=3, steps=9, seed=5, max_skip=(2, 9))
    mixed = TrainOptions((shards, clips), (0.3, 0.7), Path())
    data = open_data(mixed, recipe)
    shown = trained_clips(mixed, recipe, data, 4, beside=False)
    assert len(shown) == (9 - 4) * 3
    sets = set()
    with build_loader(mixed, recipe, data, torch.device("cpu"), 0) as loader:  # as training starts
        for batch in loader:
            if batch.step >= 4:
                first = (batch.step - 4) * 3
                views = [view for (view,) in shown[first : first + 3]]
                same_pixels(views, crops_of(batch, 64))
                sets |= {view.about[1].partition("/")[0] for view in views}
                assert views[1].about[0] == f"step {batch.step}, clip 2 of 3"
    assert sets == {shards.name, clips.name}


def preview(monkeypatch: pytest.MonkeyPatch, *words: object) -> Clips:
    """Run the command, and return the clips that it shows."""
    shown: list[Clips] = []

    def keep(clips: Clips, *_rest: Any, **_more: Any) -> None:
        shown.append(clips)

    monkeypatch.setattr("stmtrain.preview.show.show", keep)
    result = CliRunner().invoke(cli.app, ["preview", *map(str, words)])
    assert result.exit_code == 0, result.output
    return shown[0]


def test_a_run_shows_what_it_was_trained_on(
    shards: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: dict[int, Crops] = {}

    def keep(batch: Batch, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        trained[batch.step] = crops_of(batch, size)
        return trained[batch.step][1:]

    monkeypatch.setattr(training_step, "augment", keep)
    run = replace(options(shards, tmp_path / "run"), shards=(shards, clips), weights=(1.0, 2.0))
    train(run, replace(RECIPE, seed=3, max_skip=(3, 9)), lambda *_: None)
    monkeypatch.undo()
    for step in (1, 3):
        shown = preview(monkeypatch, "--run", tmp_path / "run", "--as-trained", step)
        same_pixels([view for (view,) in shown], trained[step])
    here = ("--as-trained", 2, "--set", "max_skip=[3, 9]", "--seed", 3, "--size", 32)
    same = preview(monkeypatch, "--recipe", "main", f"{shards}=1", "--shards", f"{clips}=2", *here,
                   "--batch-size", 2, "--set", "steps=4")  # fmt: skip
    same_pixels([view for (view,) in same], trained[2])


def test_stored_frames_are_shown_beside(shards: Path) -> None:
    recipe = replace(RECIPE, batch_size=4)
    run = options(shards, Path())
    clip_views = trained_clips(run, recipe, open_data(run, recipe), 0, beside=True)[:4]
    stored = ShardSet.open(shards)
    keys = list(stored.keys())
    for view, other in clip_views:
        key = view.caption.removesuffix(" as trained")
        assert other.caption == f"{key} stored"
        sample = stored.read(keys.index(key), list(view.names))
        assert list(other.jpegs) == list(sample.frames.values())
        assert list(other.object_ids) == list(view.object_ids)
        whole = stored[keys.index(key)]
        for name, mask in zip(other.names, other.masks, strict=True):
            there = whole.masks[whole.record.frames.index(name)]
            assert mask is not None
            assert not mask[there == 0].any()
            assert set(np.unique(mask).tolist()) == {0, *other.object_ids}
            slots = [np.unique(mask[there == i]).tolist() for i in whole.record.object_ids]
            assert slots == [[slot] for slot in other.object_ids]


def test_slots_are_explained(shards: Path) -> None:
    """The drawn videos have the ids 1, 3 and 4."""
    run, recipe = options(shards, Path()), replace(RECIPE, batch_size=8)
    shown = trained_clips(run, recipe, open_data(run, recipe), 0, beside=False)[:8]
    about = {part for (view,) in shown for part in view.about}
    assert "slot 1 is object 1, 2 is object 3" in about


def test_origins_of_a_batch_name_its_frames_and_objects(shards: Path) -> None:
    run, recipe = options(shards, Path()), replace(RECIPE, batch_size=6)
    data = open_data(run, recipe)
    loader: Loader
    with build_loader(run, recipe, data, torch.device("cpu"), 2) as loader:
        batch = next(loader)
    assert len(batch.origins) == 6
    for place, origin in enumerate(batch.origins):
        record = data.sets[origin.shard_set].record(origin.index)
        assert record.sample_key == batch.keys[place]
        assert len(origin.frames) == recipe.frames
        assert set(origin.frames) <= set(record.mask_frames)
        assert set(origin.object_ids) <= set(record.object_ids)
        assert len(origin.object_ids) == int(batch.num_objects[place])


def test_steps_that_a_run_does_not_have_are_refused(shards: Path) -> None:
    run = options(shards, Path())
    with pytest.raises(UsageError, match=r"--as-trained 4: expected a step from 0 to 3"):
        trained_clips(run, RECIPE, open_data(run, RECIPE), 4, beside=False)


def refused(*words: object) -> str:
    result = CliRunner().invoke(cli.app, ["preview", *map(str, words)])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_run_without_its_data_is_refused(straight: Path, clips: Path, tmp_path: Path) -> None:
    here = shutil.copytree(straight, tmp_path / "run")
    words = ("--as-trained", 0, "--run", here)
    assert "found another one there" in refused(*words, clips)
    value = json.loads((here / "data.json").read_text())
    value["shards"][0]["manifest"] = "0" * 64
    (here / "data.json").write_text(json.dumps(value))
    assert "found another one there" in refused(*words)
    for damage in ("{", "[]", '{"shards": [{}]}'):
        (here / "data.json").write_text(damage)
        assert "expected the data of a run" in refused(*words)
    (here / "data.json").unlink()
    assert "--recipe" in refused(*words)
    assert "expected --run, or shard sets" in refused("--as-trained", 0)
    assert "--recipe: is not used with --run" in refused(*words, "--recipe", "main")
    assert "--key: is not used with --as-trained" in refused(*words, "--key", "a")
    assert "--beside: is not used with stored clips" in refused(clips, "--beside")


def test_secrets_in_urls_stay_out_of_the_run_folder(straight: Path, tmp_path: Path) -> None:
    urls = ("https://me:hidden@host/set?signature=hidden",)
    run = replace(options(straight, tmp_path), shards=urls)
    write_data(tmp_path, run, [{"weight": 1.0}])
    assert "hidden" not in (tmp_path / "data.json").read_text()
    assert read_data(tmp_path)[0].shards == ("https://host/set",)


def test_a_run_folder_that_is_not_there_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found no folder; check the path") as caught:
        read_data(tmp_path / "none")
    assert "recipe.toml" not in str(caught.value)

"""The folder of results: an interrupted evaluation resumes, other results are not mixed in."""

import json
from pathlib import Path

import pytest

from stmtrain.errors import DataError, UsageError
from stmtrain.images.encode import encode_mask
from stmtrain.inference import evaluate as evaluate_module
from stmtrain.inference.evaluate import predict_video
from stmtrain.inference.options import Inference
from stmtrain.inference.results import STATE_NAME
from stmtrain.model import STM
from tests.datasets.trees import box
from tests.inference.evaluating import DAVIS_2017, pngs, run

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.mark.parametrize("stop_at", [0, 2, 5, 7])
def test_a_stopped_evaluation_is_continued(
    checkpoint: Path, davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    videos = DAVIS_2017.open(davis, "val")
    run(checkpoint, videos, tmp_path / "whole")

    def stop(done: int, *_: object) -> None:
        if done == stop_at + 1:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, videos, out, progress=stop)
    finished = stop_at // 4
    assert len(list(out.rglob("*.png"))) == 4 * finished
    assert not (out / "results.json").exists()
    segmented = []

    def spy(model: STM, video: object, *more: object) -> object:
        segmented.append(video.name)  # type: ignore[attr-defined]
        return predict_video(model, video, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate_module, "predict_video", spy)
    evaluation = run(checkpoint, videos, out)
    assert segmented == [video.name for video in videos.videos][finished:]
    assert evaluation.kept == finished
    assert pngs(out) == pngs(tmp_path / "whole")


def test_a_finished_evaluation_keeps_its_numbers(
    checkpoint: Path, davis: Path, tmp_path: Path
) -> None:
    videos = DAVIS_2017.open(davis, "val")
    first = run(checkpoint, videos, tmp_path / "out")
    again = run(checkpoint, videos, tmp_path / "out")
    assert again.kept == 2
    assert again.frames_per_second == first.frames_per_second
    assert again.peak_memory == first.peak_memory
    assert "2 of 2 videos kept" in again.summary()


def test_a_video_that_is_not_recorded_is_made_again(
    checkpoint: Path, davis: Path, tmp_path: Path
) -> None:
    videos = DAVIS_2017.open(davis, "val")
    out = tmp_path / "out"
    run(checkpoint, videos, out)
    before = pngs(out)
    record = json.loads((out / STATE_NAME).read_text())
    name = videos.videos[0].name
    del record["done"][name]
    (out / STATE_NAME).write_text(json.dumps(record))
    for path in (out / name).iterdir():
        path.write_bytes(encode_mask(box(2, 20)))
    assert run(checkpoint, videos, out).kept == 1
    assert pngs(out) == before


def test_a_torn_png_is_made_again(checkpoint: Path, davis: Path, tmp_path: Path) -> None:
    videos = DAVIS_2017.open(davis, "val")
    run(checkpoint, videos, tmp_path / "out")
    before = pngs(tmp_path / "out")
    paths = sorted((tmp_path / "out").rglob("*.png"))
    paths[0].write_bytes(paths[0].read_bytes()[:-3])
    paths[-1].unlink()
    assert run(checkpoint, videos, tmp_path / "out").kept == 0
    assert pngs(tmp_path / "out") == before


def test_other_settings_are_refused_unless_overwritten(
    checkpoint: Path, davis: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(checkpoint, DAVIS_2017.open(davis, "trainval"), out)
    kept = pngs(out)
    with pytest.raises(UsageError, match=r"other settings \(dataset DAVIS 2017 trainval -> "):
        run(checkpoint, DAVIS_2017.open(davis, "val"), out)
    options = Inference(memory_every=2)
    with pytest.raises(UsageError, match=r"memory_every 5 -> 2.*--overwrite"):
        run(checkpoint, DAVIS_2017.open(davis, "trainval"), out, options=options)
    assert pngs(out) == kept
    (out / "notes.txt").write_text("mine")
    run(checkpoint, DAVIS_2017.open(davis, "val"), out, options=options, overwrite=True)
    assert len(pngs(out)) == 8
    assert (out / "notes.txt").read_text() == "mine"


def test_masks_of_unknown_origin_are_not_mixed_in(
    checkpoint: Path, davis: Path, tmp_path: Path
) -> None:
    videos = DAVIS_2017.open(davis, "val")
    folder = tmp_path / "out" / videos.videos[0].name
    folder.mkdir(parents=True)
    (folder / "00000.png").write_bytes(encode_mask(box(1, 4)))
    with pytest.raises(UsageError, match=r"masks .* of unknown settings"):
        run(checkpoint, videos, tmp_path / "out")
    (tmp_path / "out" / STATE_NAME).write_text('{"format": "stm-evaluation"}')
    with pytest.raises(DataError, match="expected the state of an evaluation"):
        run(checkpoint, videos, tmp_path / "out")

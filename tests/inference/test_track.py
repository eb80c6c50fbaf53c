"""Tracking the user's own video: frames and masks of any kind, and what is left on disk."""

import json
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

import cli
from stmtrain.errors import DataError, UsageError
from stmtrain.images import mp4, video_file
from stmtrain.inference import own_video as own_frames
from stmtrain.inference import track
from stmtrain.inference.options import Inference
from stmtrain.inference.own_masks import read_masks
from stmtrain.inference.own_video import open_frames
from stmtrain.model import STM
from tests.datasets.trees import box
from tests.inference.own import SIZE, Mask, exif_folder, film, picture, save

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _loaded_once(model: STM, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = {"file": "x", "backbone": "resnet18", "recipe": None, "trained": "nothing"}
    monkeypatch.setattr(track, "load_model_and_origin", lambda _: (model, origin))


def run(source: Path, masks: list[str], out: Path, **more: object) -> track.Tracked:
    options = more.pop("options", Inference(memory_frames=3))
    return track.track(
        Path("x"),
        source,
        masks,
        out,
        device=CPU,
        options=options,
        **more,  # type: ignore[arg-type]
    )


def read(path: Path) -> Mask:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image)


def test_a_folder_of_frames(folder: Path, tmp_path: Path) -> None:
    first = save(tmp_path / "first.png", box(3, 4) + box(7, 30))
    out = tmp_path / "out"
    seen: list[tuple[int, int, str]] = []
    run(folder, [str(first)], out, progress=lambda *a: seen.append(a))
    assert sorted(p.name for p in out.iterdir()) == ["masks", "overlay.mp4", "summary.json"]
    assert [p.name for p in sorted((out / "masks").iterdir())] == [f"{t:05d}.png" for t in range(6)]
    assert (read(out / "masks" / "00000.png") == box(3, 4) + box(7, 30)).all()
    assert seen[-1] == (6, 6, "00005")
    with av.open(str(out / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (64, 48, 25)
        assert sum(1 for _ in container.decode(stream)) == 6
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == 6
    assert (summary["width"], summary["height"], summary["fps"]) == (64, 48, 25.0)
    masks = [read(path) for path in sorted((out / "masks").iterdir())]
    for object_id in (3, 7):
        found = summary["objects"][str(object_id)]
        areas = [int((mask == object_id).sum()) for mask in masks]
        assert found["areas"] == areas
        assert found["frames_seen"] == sum(area > 0 for area in areas)
        assert found["given_in"] == "00000"


def test_a_video_file_is_the_same_as_its_frames(tmp_path: Path) -> None:
    source = film(tmp_path / "v.mp4")
    frames = open_frames(source)
    assert (frames.length, frames.rate, frames.names) == (6, 12, None)
    pairs = list(frames.open())
    assert [name for name, _ in pairs] == [f"{t:05d}" for t in range(6)]
    for t, (_, pixels) in enumerate(pairs):
        assert np.abs(pixels.astype(int) - picture(t)).mean() < 4
    images = tmp_path / "images"
    images.mkdir()
    for name, pixels in pairs:
        Image.fromarray(pixels).save(images / f"{name}.png")
    first = str(save(tmp_path / "m.png", box(1, 4)))
    run(source, [first], tmp_path / "a")
    run(images, [first], tmp_path / "b")
    for name, _ in pairs:
        place = Path("masks") / f"{name}.png"
        assert (tmp_path / "a" / place).read_bytes() == (tmp_path / "b" / place).read_bytes()
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["fps"] == 12.0


def test_masks_added_later_and_binary_ones(folder: Path, tmp_path: Path) -> None:
    given = [
        str(save(tmp_path / "a.png", box(255, 4), palette=False)),
        f"00002={save(tmp_path / 'b.png', box(255, 24), palette=False)}",
        f"4={save(tmp_path / 'c.png', box(1, 44))}",
    ]
    run(folder, given[::-1], tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    where = {i: (found["given_in"], found["mask"]) for i, found in summary["objects"].items()}
    assert where == {
        "1": ("00004", "c.png"),
        "2": ("00000", "a.png"),
        "3": ("00002", "b.png"),
    }
    masks = [read(path) for path in sorted((tmp_path / "out" / "masks").iterdir())]
    assert ((masks[0] == 2) == (box(1, 4) > 0)).all()
    assert ((masks[2] == 3) == (box(1, 24) > 0)).all()
    assert ((masks[4] == 1) == (box(1, 44) > 0)).all()
    assert not any((mask == 1).any() for mask in masks[:4])


def test_a_mask_before_which_nothing_is_known(folder: Path, tmp_path: Path) -> None:
    mask = save(tmp_path / "m.png", box(5, 4))
    run(folder, [f"00003={mask}"], tmp_path / "out")
    masks = [read(path) for path in sorted((tmp_path / "out" / "masks").iterdir())]
    assert not np.any(masks[:3])
    assert (masks[3] == box(5, 4)).all()


def test_a_mask_a_pixel_off_is_mended_and_named(folder: Path, tmp_path: Path) -> None:
    mask = save(tmp_path / "m.png", box(5, 4, (48, 63)))
    tracked = run(folder, [str(mask)], tmp_path / "out")
    assert "m.png has 63x48 pixels" in tracked.summary["warnings"][0]


def test_a_small_video_is_not_enlarged_and_a_large_one_shrinks(
    folder: Path, tmp_path: Path
) -> None:
    first = [str(save(tmp_path / "m.png", box(5, 4)))]
    tracked = run(folder, first, tmp_path / "a", options=Inference(size=480))
    assert tracked.summary["inference"]["size"] is None
    tracked = run(folder, first, tmp_path / "b", options=Inference(size=32))
    assert tracked.summary["inference"]["size"] == 32
    assert read(tmp_path / "b" / "masks" / "00005.png").shape == SIZE


def test_odd_sizes_can_be_filmed(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for t in range(2):
        Image.fromarray(picture(t, (47, 63))).save(images / f"{t}.png")
    first = str(save(tmp_path / "m.png", box(1, 4, (47, 63))))
    run(images, [first], tmp_path / "out")
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (64, 48)


def test_without_pyav_the_overlay_is_pictures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_file, "has_extra", lambda _: False)
    monkeypatch.setattr(track, "has_extra", lambda _: False)
    first = str(save(tmp_path / "m.png", box(1, 4)))
    run(folder, [first], tmp_path / "out")
    assert len(list((tmp_path / "out" / "overlay").glob("*.jpg"))) == 6
    with pytest.raises(UsageError, match=r"needs PyAV.*stm-vos\[video\]"):
        open_frames(film(tmp_path / "v.mp4"))


def test_an_interrupted_run_leaves_whole_masks_and_no_summary(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mp4, "_CODECS", (("mpeg4", {}),))  # writes frames at once
    first = [str(save(tmp_path / "m.png", box(1, 4)))]
    out = tmp_path / "out"

    def stop(done: int, *_: object) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, first, out, progress=stop)
    assert [p.name for p in out.iterdir()] == ["masks"]
    assert all(read(path).shape == SIZE for path in (out / "masks").iterdir())
    with pytest.raises(UsageError, match=r"not empty.*--overwrite"):
        run(folder, first, out)
    (out / "mine.txt").write_text("mine")
    (folder / "00005.jpg").unlink()
    run(folder, first, out, overwrite=True, overlay=False)
    assert sorted(p.name for p in out.iterdir()) == ["masks", "mine.txt", "summary.json"]
    assert len(list((out / "masks").iterdir())) == 5


def test_frames_are_not_collected(tmp_path: Path) -> None:
    """Memory does not grow with the video: 200 frames of 256x256 would be 39 MB."""
    large = tmp_path / "large"
    large.mkdir()
    pixels = picture(0, (256, 256))
    Image.fromarray(pixels).save(large / "0000.png")
    for t in range(1, 200):
        (large / f"{t:04d}.png").hardlink_to(large / "0000.png")
    frames = open_frames(large)

    def labels(_: object, source: Iterator[Mask], *__: object, **___: object) -> Iterator[Mask]:
        yield from (frame[..., 0] for frame in source)

    given = read_masks([str(save(tmp_path / "m.png", box(1, 4, (256, 256))))], frames, (256, 256))
    track_segment = track.segment_video
    tracemalloc.start()
    try:
        track.segment_video = labels  # type: ignore[assignment]
        count = 0
        for _ in track._segmented(None, frames.open(), given, Inference(), 200):  # type: ignore[arg-type]
            count += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        track.segment_video = track_segment
        tracemalloc.stop()
    assert count == 200
    assert peak < 8 * pixels.nbytes


@given(st.lists(st.integers(0, 3)))
def test_runs_are_the_frames_with_pixels(areas: list[int]) -> None:
    runs = track._runs(areas)
    inside = {t for a, b in runs for t in range(a, b + 1)}
    assert inside == {t for t, area in enumerate(areas) if area}
    assert all(b + 1 < c for (_, b), (c, _) in pairwise(runs))


def _empty(path: Path) -> list[str]:
    return [str(save(path / "m.png", np.zeros(SIZE, np.uint8)))]


def _narrow(path: Path) -> list[str]:
    return [str(save(path / "m.png", box(1, 4, (48, 60))))]


def _again(path: Path) -> list[str]:
    first, second = (save(path / f"{n}.png", box(1, left)) for n, left in (("a", 4), ("b", 30)))
    return [str(first), f"00000={second}"]


def _colours(path: Path) -> list[str]:
    Image.new("RGB", SIZE[::-1], (9, 0, 0)).save(path / "m.png")
    return [str(path / "m.png")]


def _later(frame: str) -> object:
    return lambda path: [f"{frame}={save(path / 'm.png', box(1, 4))}"]


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        (_empty, DataError, r"m.png: expected an object, found background only"),
        (_narrow, DataError, r"m.png: expected a mask of 64x48 pixels .*found 60x48"),
        (_again, DataError, r"b.png: gives object 1, which .*a.png gives"),
        (_colours, DataError, r"m.png: expected a palette or grey mask"),
        (lambda path: [str(path / "no.png")], DataError, r"no.png: cannot be read"),
        (_later("00006"), UsageError, r"--mask 00006=.*00000 to 00005"),
        (_later("end"), UsageError, r"--mask end=.*00000 to 00005"),
        (lambda _: [], UsageError, r"--mask: expected the mask of the first frame"),
    ],
)
def test_bad_masks(
    folder: Path, tmp_path: Path, masks: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(folder, masks(tmp_path), tmp_path / "out")  # type: ignore[operator]
    assert not (tmp_path / "out").exists()


def test_a_mask_beyond_the_end_of_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, masks = film(tmp_path / "v.mp4"), _later("9")(tmp_path)  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"--mask 9=.*0 to 5"):
        run(source, masks, tmp_path / "out")
    known = open_frames(source)
    unknown = own_frames.OwnFrames(known.path, None, None, known.rate, known.open)
    monkeypatch.setattr(track, "open_frames", lambda _: unknown)
    with pytest.raises(DataError, match=r"has 6 frames, and .*m.png is for frame 9"):
        run(source, masks, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()


def stm(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_the_command(folder: Path, tmp_path: Path) -> None:
    first = save(tmp_path / "m.png", box(3, 4))
    base = ("track", folder, "--checkpoint", "x", "--device", "cpu", "--out", tmp_path / "out")
    done = stm(*base, "--mask", first, "--top-k", 5, "--fps", 10)
    assert done.exit_code == 0, done.output
    assert "object 3: seen in" in done.output
    assert "6 frames, " in done.output
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["fps"] == 10.0
    refused = stm(*base, "--mask", first)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    assert stm(*base, "--mask", first, "--overwrite", "--fps", 0).exit_code == 2
    assert stm(*base).exit_code == 2


def test_track_uses_frames_as_stored_where_the_mask_fits_only_that(tmp_path: Path) -> None:
    source = exif_folder(tmp_path / "v", picture(0), 6)
    for size in ((48, 64), (64, 48)):
        mask = save(tmp_path / "m.png", box(1, 4, size))
        run(source, [str(mask)], tmp_path / f"out{size[0]}")
        found = read(tmp_path / f"out{size[0]}/masks/0.png")
        np.testing.assert_array_equal(found, box(1, 4, size))
    mask = save(tmp_path / "m.png", box(1, 4, (48, 48)))
    with pytest.raises(DataError, match=r"m.png: expected a mask of 48x64 .* found 48x48"):
        run(source, [str(mask)], tmp_path / "none")

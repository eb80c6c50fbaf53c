"""The rules of the protocols on small drawn trees, each in the layout of its benchmark."""

import io
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import cli
from stmtrain.commands.console import SafeConsole
from stmtrain.datasets.protocol import (
    DAVIS,
    DAVIS_2017,
    LVOS,
    MOSE_2,
    PROTOCOLS,
    SAV,
    VOST,
    YOUTUBE_VOS,
    Protocol,
    find_protocol,
)
from stmtrain.datasets.truth import lvos_frames, open_truth
from stmtrain.errors import DataError, UsageError
from stmtrain.images.encode import encode_mask
from stmtrain.scoring.metrics import Rule, measure, statistics
from stmtrain.scoring.numbers import object_numbers, set_numbers
from stmtrain.scoring.score import score_results
from stmtrain.scoring.scores import ObjectScore, Scores
from tests.scoring.test_metrics import slow_contour, some_masks

SIZE = (96, 128)
FRAMES = 6


def draw(*ids: int) -> np.ndarray:
    """Objects as bars below each other."""
    mask = np.zeros(SIZE, np.uint8)
    for object_id in ids:
        mask[4 * (object_id % 6) : 4 * (object_id % 6) + 3, 4:20] = object_id
    return mask


def write(folder: Path, masks: Mapping[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in masks.items():
        (folder / f"{name}.png").write_bytes(encode_mask(mask.astype(np.uint8)))


def video(*shown: tuple[int, ...], name: str = "{:05d}", step: int = 1) -> dict[str, np.ndarray]:
    return {name.format(step * t): draw(*ids) for t, ids in enumerate(shown)}


ALL = ((1, 2),) * FRAMES


def tree(root: Path, protocol: str) -> Path:
    """Draw one video, v, of objects 1 and 2 in the layout of a protocol."""
    masks = video(*ALL)
    if protocol in ("davis2016", "davis2017"):
        write(root / "Annotations/480p/v", masks)
        year = protocol.removeprefix("davis")
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / "val.txt").write_text("v\n")
    elif protocol == "vost":
        write(root / "Annotations/v", masks)
        (root / "ImageSets").mkdir()
        (root / "ImageSets/val.txt").write_text("v")
    elif protocol == "mose2":
        write(root / "valid/Annotations/v", masks)
        meta = {"videos": {"v": {"objects": ["1", "2"], "length": FRAMES}}}
        (root / "meta_valid.json").write_text(json.dumps(meta))
    elif protocol == "lvos":
        masks = video(*ALL, name="{:08d}", step=5)
        masks = {f"{int(name) + 1:08d}": mask for name, mask in masks.items()}
        write(root / "valid/Annotations/v", masks)
        span = {"start": 1, "end": 5 * FRAMES, "frame_nums": FRAMES}
        objects = {i: {"frame_range": span} for i in ("1", "2")}
        meta = {"videos": {"v": {"objects": objects}}}
        (root / "valid/valid_meta.json").write_text(json.dumps(meta))
        (root / "unseen_videos.txt").write_text("w\nv\n")
    elif protocol == "sav":
        for number, object_id in (("000", 1), ("001", 2)):
            own = {name: 255 * (mask == object_id) for name, mask in masks.items()}
            folder = root / "sav_val/Annotations_6fps/v" / number
            write(folder, {name: mask.astype(np.uint8) for name, mask in own.items()})
        (root / "sav_val/sav_val.txt").write_text("v")
    else:
        write(root / "valid/Annotations/v", masks)
        for split, ids in (("valid", {"1": "cat", "2": "dog"}), ("train", {"1": "cat"})):
            objects = {i: {"category": c, "frames": list(masks)} for i, c in ids.items()}
            (root / split).mkdir(exist_ok=True)
            (root / split / "meta.json").write_text(
                json.dumps({"videos": {"v": {"objects": objects}}})
            )
    return root


def truth_folder(root: Path) -> Path:
    """The folder whose copy is a perfect result."""
    return next(path for path in (root, *root.rglob("*")) if (path / "v").is_dir())


def stm(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.mark.parametrize("name", [*PROTOCOLS])
def test_perfect_results_in_the_layout_of_each_benchmark(name: str, tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", name)
    results, out = truth_folder(root), tmp_path / "scores.json"
    words = ("score", "--videos", root, "--protocol", name, "--results", results)
    done = stm(*words, "--workers", 1, "--json", out)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    objects = 1 if name == "davis2016" else 2
    assert len(found["objects"]) == objects
    assert {len(one["frames"]) for one in found["objects"]} == {FRAMES - 2}
    for key, value in found["global"].items():
        assert value == (0 if "ecay" in key or key.startswith("V") else 1) or value is None, key
    protocol = found["protocol"]
    assert (protocol["name"], protocol["version"]) == (name, PROTOCOLS[name].version)
    assert protocol["official"] == PROTOCOLS[name].official
    assert len(protocol["counted_sha256"]) == 64
    assert protocol["counted_sha256"][:12] in done.output
    again = stm(*words, "--workers", 1, "--as-meant", "--json", out)
    assert again.exit_code == 0, again.output
    meant = json.loads(out.read_text())["protocol"]
    assert meant["name"] == f"{name}-as-meant"
    assert not meant["official"]
    assert meant["counted_sha256"] == protocol["counted_sha256"]


def scored(root: Path, results: Path, protocol: Protocol) -> Scores:
    return score_results(results, open_truth(root, protocol))


def of_one(root: Path, results: Path, protocol: Protocol) -> tuple[ObjectScore, dict[str, float]]:
    (score,) = scored(root, results, protocol).objects
    return score, object_numbers(score, protocol)  # type: ignore[return-value]


def test_gaps_count_as_objects_only_in_the_official_rules(tmp_path: Path) -> None:
    root = tree(tmp_path, "vost")
    write(root / "Annotations/v", video(*[(3, 5)] * FRAMES))
    for protocol, ids in ((VOST, [1, 2, 3, 4, 5]), (find_protocol("vost", meant=True), [3, 5])):
        found = scored(root, root / "Annotations", protocol)
        assert [one.object_id for one in found.objects] == ids
    notes = scored(root, root / "Annotations", VOST).notes
    assert any("shows 1, 2, 4; they count 1" in note for note in notes)


@pytest.mark.parametrize("name", ["davis2016", "davis2017", "vost"])
def test_without_lists_every_video_is_scored(name: str, tmp_path: Path) -> None:
    write(tmp_path / "Annotations/v", video(*ALL))
    write(tmp_path / "Annotations/w", video(*ALL))
    found = scored(tmp_path, tmp_path / "Annotations", PROTOCOLS[name])
    assert {one.video for one in found.objects} == {"v", "w"}
    assert any("all videos that have masks" in note for note in found.notes)


@pytest.mark.parametrize("rules", ["background", "object", "ignored"])
def test_void(rules: str, tmp_path: Path) -> None:
    truth, result = draw(1), draw(1)
    truth[:3, 4:20] = 255
    result[:3, 4:12] = 1
    write(tmp_path / "Annotations/v", {f"{t}": truth for t in range(3)})
    write(tmp_path / "results/v", {f"{t}": result for t in range(3)})
    protocol = Protocol(objects="seen" if rules == "object" else "given", void=rules)  # type: ignore[arg-type]
    found = scored(tmp_path, tmp_path / "results", protocol)
    assert [one.object_id for one in found.objects] == ([1, 255] if rules == "object" else [1])
    assert found.objects[0].j_values == (1.0 if rules == "ignored" else 48 / 72,)


def test_results_of_255_show_the_one_object_only_where_void_is_not_official(tmp_path: Path) -> None:
    root = tree(tmp_path, "vost")
    write(root / "Annotations/v", video((1,), (1,), (), (1,), (1,), (1,)))
    write(tmp_path / "results/v", video((1,), (1,), (), (1,), (1,), (1,)))
    write(tmp_path / "results/v", {"00002": 255 * (draw(1) > 0), "00003": 255 * (draw(1) > 0)})
    for protocol, values in ((VOST, (1, 1, 0, 1)), (replace(VOST, objects="given"), (1, 0, 1, 1))):
        (one,) = scored(root, tmp_path / "results", protocol).objects
        assert one.j_values == values


def test_frames_before_the_first_sight(tmp_path: Path) -> None:
    shown = ((), (), (), (1,), (1,), (1,))
    write(tmp_path / "tree/Annotations/v", video(*shown))
    write(tmp_path / "tree/Annotations/w", video((2,), *[(1, 2)] * 5))
    write(tmp_path / "results/v", video((), (), (1,), (1,), (), ()))
    write(tmp_path / "results/w", video((2,), *[(1, 2)] * 4, (9,)))
    early, first, second = scored(tmp_path / "tree", tmp_path / "results", SAV).objects
    assert early.frames == ("00002", "00003", "00004")
    assert early.before_seen == ("00001",)
    assert early.j_values == (0, 1, 0)
    assert (first.object_id, second.object_id) == (1, 2)
    assert len(first.frames) == len(second.frames) == FRAMES - 2
    meant = scored(tmp_path / "tree", tmp_path / "results", find_protocol("sav", meant=True))
    assert meant.objects[0].j_values == (1, 0, 1, 0)
    assert meant.counted() == scored(tmp_path / "tree", tmp_path / "results", SAV).counted()


@given(some_masks(), st.floats(0.01, 0.4), st.floats(0.02, 0.6), st.booleans())
def test_both_tolerances_of_mose(masks, tolerance: float, own: float, rounded: bool) -> None:
    prediction, truth = masks
    limit = tolerance * math.hypot(*truth.shape)
    radius = math.ceil(own * math.sqrt(truth.sum())) if truth.any() else limit
    if rounded:
        limit = math.ceil(limit)
        radius = min(radius, limit) if truth.any() else limit
    radii = (math.ceil(limit), radius) if radius < limit else (limit, limit)
    found = measure(prediction, truth, Rule(tolerance, own, rounded, smoothing=1))
    expected = [slow_f_of_disk(prediction, truth, r) for r in radii]
    assert [found.f, found.f_dot] == pytest.approx(expected)
    assert found.j == ((prediction & truth).sum() + 1) / ((prediction | truth).sum() + 1)
    assert (found.area, found.true_area) == (prediction.sum(), truth.sum())


def slow_f_of_disk(prediction: np.ndarray, truth: np.ndarray, radius: float) -> float:
    """F with every pixel of the disk that NumPy's ``arange`` gives, its anchor in the middle."""
    grid = np.arange(-radius, radius + 1)
    inside = grid[:, None] ** 2 + grid**2 <= radius**2
    inside[0, 0] |= not inside.any()  # as OpenCV
    offsets = np.argwhere(inside) - len(grid) // 2
    contours = [slow_contour(mask) for mask in (prediction, truth)]

    def share(own: np.ndarray, other: np.ndarray) -> float:
        marked = {tuple(pixel) for pixel in np.argwhere(other)}
        pixels = np.argwhere(own)
        near = [any(tuple(pixel + offset) in marked for offset in offsets) for pixel in pixels]
        return float(np.mean(near))

    if not contours[0].any() or not contours[1].any():
        return float(contours[0].any() == contours[1].any())
    precision, recall = share(*contours), share(*contours[::-1])
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def runs(visible: str, values: list[float], shown_first: bool, rules: Protocol) -> list[object]:
    shown = tuple(letter == "x" for letter in visible)
    names = tuple(map(str, range(len(shown))))
    score = ObjectScore("v", 1, names, tuple(values), tuple(values), visible=shown,
                        f_dot_values=tuple(values), shown_first=shown_first)  # fmt: skip
    numbers = object_numbers(score, rules)
    assert numbers["J_d"] == numbers["F_dot_d"] == numbers["J&F_dot_d"]
    return [numbers["J_d"], numbers["J_r"]]


def test_disappearances_and_reappearances() -> None:
    meant = find_protocol("mose2", meant=True)
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    for visible, first, official, repaired in (
        ("xxxxxx", True, [None, None], [None, None]),
        ("xx..xx", True, [0.35, 0.55], [0.35, 0.55]),
        ("x.xx.x", True, [(0.2 + 0.5) / 2, (0.35 + 0.6) / 2], [0.35, (0.35 + 0.6) / 2]),
        ("..xxxx", False, [None, 0.45], [None, None]),
        ("..xxxx", True, [None, 0.45], [0.15, 0.45]),
        ("......", True, [None, None], [0.35, None]),
        ("..x.xx", False, [0.4, (0.3 + 0.55) / 2], [0.4, 0.55]),
    ):
        for rules, expected in ((MOSE_2, official), (meant, repaired)):
            assert runs(visible, values, first, rules) == [
                None if value is None else pytest.approx(value) for value in expected
            ]


def test_objects_without_runs_have_no_part_in_their_means() -> None:
    def score(visible: str, value: float) -> ObjectScore:
        shown = tuple(letter == "x" for letter in visible)
        of = (value,) * len(shown)
        return ObjectScore("v", 1, tuple("abcd"), of, of, visible=shown, f_dot_values=of)

    numbers = set_numbers(Scores((score("xxxx", 0.5), score("x..x", 0.25)), rules=MOSE_2))
    assert (numbers["J"], numbers["J_d"], numbers["J&F_dot_r"]) == (0.375, 0.25, 0.25)
    numbers = set_numbers(Scores((score("xxxx", 0.5),), rules=MOSE_2))
    assert numbers["J_d"] is numbers["J&F_dot_d"] is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_v_is_the_deviation_over_time(values: list[float]) -> None:
    score = ObjectScore("v", 1, tuple(map(str, range(len(values)))), tuple(values), tuple(values))
    exact = object_numbers(score, find_protocol("lvos", meant=True))["V"]
    assert exact == pytest.approx(np.std(values))
    assert object_numbers(score, LVOS)["V"] == pytest.approx(math.sqrt(round(np.var(values), 4)))


@given(st.integers(1, 40))
def test_j_tr_is_over_the_last_quarter(frames: int) -> None:
    values = tuple(np.linspace(0, 1, frames))
    score = ObjectScore("v", 1, tuple(map(str, range(frames))), values, values)
    expected = np.mean(values[3 * frames // 4 :])
    assert object_numbers(score, VOST)["J_tr"] == pytest.approx(expected)


def test_decay_of_many_frames_is_the_official_one_where_that_is_asked_for() -> None:
    values = np.linspace(1, 0, 256)
    assert statistics(values, short=True) == statistics(values)
    longer = np.linspace(1, 0, 257)  # the last position, 256, becomes 0
    assert math.isnan(statistics(longer, short=True).decay)
    assert statistics(longer).decay == pytest.approx(0.75, abs=0.01)
    score = ObjectScore("v", 1, tuple(map(str, range(257))), tuple(longer), tuple(longer))
    assert set_numbers(Scores((score,), rules=DAVIS_2017))["J-Decay"] is None
    assert set_numbers(Scores((score,), rules=DAVIS))["J-Decay"] == statistics(longer).decay
    short = ObjectScore("w", 1, tuple("abcd"), *[(0.5,) * 4] * 2)
    both = set_numbers(Scores((score, short), rules=DAVIS_2017))
    assert both["J-Decay"] is None, "as NaN of the official code"
    assert both["J-Mean"] == pytest.approx(0.5)


def printed(scores: Scores) -> str:
    console = SafeConsole(width=80, file=io.StringIO())
    console.print(scores.table())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_seen_and_unseen_count_the_same(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", "youtube-vos")
    shutil.copytree(root / "valid/Annotations", tmp_path / "results")
    write(tmp_path / "results/v", video(*[(1,)] * FRAMES))
    numbers = set_numbers(scored(root, tmp_path / "results", YOUTUBE_VOS))
    assert (numbers["J_seen"], numbers["J_unseen"], numbers["G"]) == (1, 0, 0.5)
    assert "G: 50.0" in printed(scored(root, tmp_path / "results", YOUTUBE_VOS))
    cats = (root / "train/meta.json").read_text()
    (root / "train/meta.json").write_text(
        cats.replace('"1":', '"2": {"category": "dog", "frames": ["0"]}, "1":')
    )
    assert "unseen" not in printed(scored(root, tmp_path / "results", YOUTUBE_VOS))
    (root / "train/meta.json").unlink()
    unknown = scored(root, tmp_path / "results", YOUTUBE_VOS)
    assert set_numbers(unknown)["G"] is None
    assert set_numbers(unknown)["J_all"] == set_numbers(unknown)["J&F_all"] == 0.5
    assert "50.0" in printed(unknown)
    assert "unseen" not in printed(unknown)
    assert any("add train/meta.json" in note for note in unknown.notes)
    (root / "seen_categories.txt").write_text("cat\ncow\n")
    assert set_numbers(scored(root, tmp_path / "results", YOUTUBE_VOS)) == numbers


@given(start=st.integers(0, 3), frames=st.integers(3, 6), beyond=st.integers(-4, 4))
def test_ranges_of_lvos_leave_out_both_ends(start: int, frames: int, beyond: int) -> None:
    """Whether ``end`` is the last frame's number or beyond it."""
    first, last = 5 * start + 1, 5 * (start + frames - 1) + 1
    masks = {f"{5 * t + 1:08d}": Path() for t in range(12)}
    span = {"start": str(first), "end": str(last + max(0, beyond)), "frame_nums": frames}
    names = lvos_frames({"frame_range": span}, masks, "here")
    assert names == tuple(f"{n:08d}" for n in range(first, last + 1, 5))
    for wrong in (frames - 2, frames + 2, 99):
        with pytest.raises(DataError, match=r"here: (frame_nums is|has)"):
            lvos_frames({"frame_range": {**span, "frame_nums": wrong}}, masks, "here")


def test_objects_of_lvos_need_a_frame_that_counts() -> None:
    masks = {f"{5 * t + 1:08d}": Path() for t in range(12)}
    for frames, end in ((1, 2), (2, 7), (2, 6)):
        span = {"start": 1, "end": end, "frame_nums": frames}
        with pytest.raises(DataError, match=f"has {frames} frames, but the first and the last"):
            lvos_frames({"frame_range": span}, masks, "here")


def test_missing_videos_count_as_the_protocol_says(tmp_path: Path) -> None:
    root = tree(tmp_path / "mose", "mose2")
    meta = json.loads((root / "meta_valid.json").read_text())
    meta["videos"]["w"] = meta["videos"]["v"]
    (root / "meta_valid.json").write_text(json.dumps(meta))
    shutil.copytree(root / "valid/Annotations/v", root / "valid/Annotations/w")
    shutil.copytree(root / "valid/Annotations", tmp_path / "all")
    shutil.copytree(root / "valid/Annotations/v", tmp_path / "some/v")
    both, one = (scored(root, tmp_path / name, MOSE_2) for name in ("all", "some"))
    assert set_numbers(one)["J&F_dot"] == set_numbers(both)["J&F_dot"] / 2 == 0.5
    assert one.missing == {"w": "no folder of results: its objects count 0 in J and F"}
    assert one.notes[0].startswith("MISSING w")
    assert one.counted() == both.counted(), "they count 0, but they count"
    leaving = replace(MOSE_2, missing_video="leave out")
    left_out = scored(root, tmp_path / "some", leaving)
    assert set_numbers(left_out)["J&F_dot"] == 1
    assert left_out.counted() != both.counted()
    assert "1 of 2 videos scored" in left_out.extent()
    shutil.copytree(tmp_path / "some", tmp_path / "nested/masks")
    with pytest.raises(DataError, match=r"pass .*nested/masks"):
        scored(root, tmp_path / "nested", MOSE_2)
    with pytest.raises(DataError, match="some/w: expected the results of video 'w'"):
        scored(root, tmp_path / "some", find_protocol("mose2", meant=True))


def test_the_digest_is_of_what_counts_and_not_of_the_results(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", "davis2017")
    write(tmp_path / "results/v", video(*[(1,)] * FRAMES))
    perfect = scored(root, root / "Annotations/480p", DAVIS_2017)
    assert scored(root, tmp_path / "results", DAVIS_2017).counted() == perfect.counted()
    shorter = scored(root, tmp_path / "results", replace(DAVIS_2017, last_frame=True))
    assert shorter.counted() != perfect.counted()


def test_your_own_protocol(tmp_path: Path) -> None:
    write(tmp_path / "Annotations/v", video(*ALL))
    path = tmp_path / "mine.toml"
    path.write_text('late_objects = true\nlast_frame = true\nmeasures = ["J", "V"]\n')
    out = tmp_path / "scores.json"
    words = ("score", "--videos", tmp_path, "--results", tmp_path / "Annotations", "--json", out)
    done = stm(*words, "--protocol", path, "--workers", 1)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert found["protocol"]["name"] == "mine"
    assert found["global"] == {"J": 1, "V": 0}
    assert {len(one["frames"]) for one in found["objects"]} == {FRAMES - 1}
    path.write_text('base = "vost"\nvoid = "ignored"\ntree = "folders"')
    derived = find_protocol(str(path))
    assert (derived.name, derived.base, derived.measures) == ("mine", "vost", VOST.measures)
    assert not derived.official
    assert find_protocol(str(path), meant=True).objects == "given"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("colour = 3", "unknown field 'colour'"),
        ('base = "davis"', "base: expected one of davis2016"),
        ('measures = ["J", "G"]', "measures: expected some of .* found 'G'"),
        ("measures = []", "measures: expected some of .* found none"),
        ('measures = ["F_dot"]', "F_dot needs object_tolerance"),
        ("tolerance = 0.0", "expected tolerances"),
        ('void = "object id"', "void: expected one of background, object, ignored"),
    ],
)
def test_a_wrong_protocol_is_named(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"mine\.toml.*{problem}"):
        find_protocol(str(path))


def test_wrong_usage_has_exit_code_2(tmp_path: Path) -> None:
    write(tmp_path / "Annotations/v", video(*ALL))
    words = ("score", "--videos", tmp_path, "--results", tmp_path)
    for more, part in (
        (("--protocol", "mose3"), "expected davis2016"),
        (("--as-meant",), "name one"),
    ):
        done = stm(*words, *more)
        assert done.exit_code == 2
        assert part in done.output
    (tmp_path / "vost.toml").write_text("")
    with pytest.raises(UsageError, match="expected another than a benchmark's"):
        find_protocol(str(tmp_path / "vost.toml"))


BROKEN = {
    "mose2": ("meta_valid.json", '{"videos": {"v": {}}}', "expected objects and length"),
    "lvos": ("valid/valid_meta.json", '{"videos": {"v": {"objects": {"x": 1}}}}', "expected obj"),
    "vost": ("ImageSets/val.txt", "v\n..\n", "expected names of letters"),
    "sav": ("sav_val/sav_val.txt", "v\nw\n", "w: expected a folder"),
    "davis2017": ("ImageSets/2017/val.txt", "v\nw\n", "480p/w: expected a folder"),
    "youtube-vos": ("valid/meta.json", "[]", 'expected a JSON object with "videos"'),
}


@pytest.mark.parametrize("name", [*BROKEN])
def test_broken_ground_truth_is_named(name: str, tmp_path: Path) -> None:
    root = tree(tmp_path, name)
    path, text, problem = BROKEN[name]
    (root / path).write_text(text)
    with pytest.raises(DataError, match=problem):
        open_truth(root, PROTOCOLS[name])
    with pytest.raises(DataError, match="expected"):
        open_truth(root / "elsewhere", PROTOCOLS[name])

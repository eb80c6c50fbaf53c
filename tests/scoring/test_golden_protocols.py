"""Every protocol against what its official code gave, and every single fault of the inputs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from stmtrain.datasets.protocol import MOSE_2, Protocol, find_protocol
from stmtrain.datasets.truth import open_truth
from stmtrain.scoring.numbers import object_numbers, set_numbers
from stmtrain.scoring.score import score_results
from stmtrain.scoring.scores import Scores
from tests.scoring.golden_cases import GIVEN, INPUTS, PROTOCOL, given, golden, tree_of

pytestmark = [given, pytest.mark.golden]

DAVIS_NAMES = {"J&F": "J&F-Mean", "J": "J-Mean", "F": "F-Mean", "V": "V-Mean"} | {
    f"{m}_{s}": f"{m}-{s.capitalize()}" for m in "JF" for s in ("recall", "decay")
}
FILES = ("mose", "lvos", "vost", "sav", "vosbench_mose", "vosbench_vost", "youtube_vos")


def scored(name: str, protocol: Protocol) -> Scores:
    root = GIVEN / "inputs" / INPUTS.get(name, name)
    return score_results(root / "results", open_truth(root, protocol))


def official(name: str, meant: bool = False) -> Scores:
    return scored(name, find_protocol(PROTOCOL.get(name, name), meant=meant))


def agree(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every number of an official object or set is ours, to 1e-6."""
    for key, value in expected.items():
        if isinstance(value, str | list | dict | bool) or key.startswith(("frames", "objects")):
            continue
        if key == "V_unrounded":
            continue
        name = DAVIS_NAMES[key] if DAVIS_NAMES.get(key) in found else key
        assert name in found, f"{key} is not in {sorted(found)}"
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-6)), key


def check(mapping: dict[str, Any], expected: dict[str, Any]) -> None:
    """The set, the objects and their frames are those of a golden file."""
    agree(mapping["global"], expected["set"])
    objects = {(one["video"], str(one["object_id"])): one for one in mapping["objects"]}
    listed = {(v, i): one for v, of in expected["objects"].items() for i, one in of.items()}
    assert objects.keys() == listed.keys()
    for key, one in listed.items():
        agree(objects[key], one)
        if isinstance(one.get("frames"), list):
            assert objects[key]["frames"] == one["frames"]
        frames = one.get("per_frame") or one.get("per_frame_counted") or {}
        for measure, values in frames.items():
            of = objects[key].get("per_frame", objects[key])
            if measure in of:
                assert of[measure] == pytest.approx(values, abs=1e-6), (key, measure)


@pytest.mark.parametrize("name", FILES)
def test_official_numbers(name: str) -> None:
    check(official(name).to_mapping(), golden(name))


def test_official_numbers_of_davis(tmp_path: Path) -> None:
    expected = golden("davis2017")
    root, results, protocol = tree_of("davis2017", tmp_path, [], expected["videos"])
    scores = score_results(results, open_truth(root, find_protocol(protocol)))
    check(scores.to_mapping(), expected)


@pytest.mark.parametrize("name", ["lvos", "vost", "sav", "vosbench_mose", "vosbench_vost"])
def test_numbers_without_the_faults_of_the_official_code(name: str) -> None:
    scores = official(name, meant=True)
    expected = golden(name)["as_meant"]
    agree(scores.to_mapping()["global"], expected["set"])
    assert scores.rules.name == f"{PROTOCOL.get(name, name)}-as-meant"
    by_label = {one.label: object_numbers(one, scores.rules) for one in scores.objects}
    for video, objects in expected.get("objects", {}).items():
        for object_id, one in objects.items():
            agree(by_label[video, object_id], one)


def test_each_repair_of_mose() -> None:
    expected = golden("mose")["as_meant"]["set"]
    repairs: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "first_frame_seen": ({"first_frame_shows": True}, ("J_d", "F_dot_d")),
        "without_first_appearance": (
            {"first_frame_shows": True, "first_appearance": False},
            ("J_r", "F_dot_r"),
        ),
        "ceil_bound": ({"rounded": True}, ("F",)),
        "both_bounds_ceil": ({"rounded": True}, ("F_dot",)),
    }
    for suffix, (fields, names) in repairs.items():
        numbers = set_numbers(scored("mose", replace(MOSE_2, **fields)))
        for name in names:
            assert numbers[name] == pytest.approx(expected[f"{name}_{suffix}"], abs=1e-6), name
    meant = set_numbers(official("mose", meant=True))
    for suffix, name in (
        ("ceil_bound", "F"),
        ("both_bounds_ceil", "F_dot"),
        ("first_frame_seen", "J_d"),
        ("without_first_appearance", "J_r"),
    ):
        assert meant[name] == pytest.approx(expected[f"{name}_{suffix}"], abs=1e-6)


OURS: dict[tuple[str, str], str] = {
    ("mose", "one middle result frame missing"): "found none for 1, the first is 00011.png",
    ("mose", "two result frames missing"): "found none for 2, the first is 00010.png",
    ("mose", "video of two frames"): "draw_late: expected 3 frames or more, found 2",
    ("mose", "result frame of another size"): "00004.png: expected 432x240 pixels",
    ("mose", "RGB result PNGs"): "expected a palette or grey mask",
    ("lvos", "result frame missing"): "found none for 1, the first is 00000051.png",
    ("lvos", "object of one frame"): "draw_late', object 1: has 1 frames",
    ("lvos", "frame_nums larger than the range"): "draw_late', object 1: frame_nums is 34",
    ("lvos", "frame_nums smaller than the range"): "draw_late', object 1: frame_nums is 25",
    ("lvos", "end of a range beyond the last mask"): "draw_late', object 1: frame_nums is 30",
    ("lvos", "object of two frames"): "draw_late', object 1: has 2 frames",
    ("vost", "result frame missing"): "found none for 1, the first is frame00060.png",
    ("sav", "result frame missing"): "found none for 1, the first is 00040.png",
    ("sav", "an object's folder missing in the results"): "draw_late/001: expected a mask",
    ("sav", "ground truth empty in every scored frame"): "draw_late/001: expected the object",
    ("sav", "two ids in one result"): "00048.png: expected one object",
    ("vosbench_vost", "result frame missing"): "found none for 1, the first is frame00060.png",
    ("davis2017", "result frame missing"): "found none for 1, the first is 00004.png",
}
"""What ours says, with exit code 1, in the cases that have no number."""

NOTED: dict[tuple[str, str], str] = {
    ("mose", "a whole video missing"): "MISSING draw_late: no folder of results: its",
    ("mose", "an object more in meta than in the masks"): "draw_late: no scored true mask shows 8",
    ("lvos", "no unseen video"): "unseen_videos.txt: lists none of the videos",
    ("vost", "id 255 in one result"): "draw_void: 255 in up to 1 frames are none of its object ids",
    ("vost", "objects only after the first frame"): "draw_late: 4 in up to 17 frames are none",
    ("sav", "a whole video missing"): "MISSING draw_late: no folder of results: left",
    ("sav", "a whole video missing, --strict"): "MISSING draw_late: no folder of results: left",
    ("sav", "an extra object's folder in the results"): "draw_late: 1 folders are not in",
    ("vosbench_vost", "void in the ground truth"): "255 are an object of their own",
    ("davis2017", "a result id above the largest id of the first mask"): "draw_gaps: 9, 12 in up",
    ("davis2017", "void in the ground truth"): "void in 18 scored frames",
}  # fmt: skip
"""What ours notes beside the numbers."""

UNLIKE = {
    ("mose", "first result frame missing"): "the first frame is not scored, and nothing moves",
    ("mose", "results of one video only"): "they are the results of that video",
    ("vost", "id 255 in one result"): "the id is background, without 255 copies of the video",
    ("sav", "a whole video missing, --strict"): "it is listed in every result",
    ("davis2017", "a result id above the largest id of the first mask"): "the id is background",
}
"""The cases in which ours has a number and the official code another one or none."""

DAVIS_VIDEO = {
    "a result id above the largest id of the first mask": "draw_gaps",
    "result frame missing": "davis_camel",
    "void in the ground truth": "draw_void",
}


def cases() -> list[tuple[str, dict[str, Any]]]:
    if not GIVEN.exists():
        return []
    listed = json.loads((GIVEN / "cases.json").read_text())
    return [(name, case) for name, of in listed.items() for case in of]


@pytest.mark.parametrize(
    ("name", "case"), cases(), ids=lambda value: value["case"] if isinstance(value, dict) else value
)
def test_one_fault_of_the_inputs(name: str, case: dict[str, Any], tmp_path: Path) -> None:
    key = (name, case["case"])
    videos = [DAVIS_VIDEO[case["case"]]] if name == "davis2017" else None
    root, results, protocol = tree_of(name, tmp_path, case["changes"], videos)
    out = tmp_path / "scores.json"
    words = ("score", "--videos", root, "--results", results, "--protocol", protocol)
    done = CliRunner().invoke(cli.app, [*map(str, words), "--json", str(out), "--workers", "1"])
    if key in OURS:
        assert done.exit_code == 1, done.output
        assert not out.exists()
        line = done.output.strip().splitlines()[-1]
        assert line.startswith("stm: ")
        assert OURS[key] in line
        assert "Traceback" not in done.output
        return
    assert done.exit_code == 0, done.output
    mapping = json.loads(out.read_text())
    assert NOTED.get(key, "") in "\n".join(mapping["notes"])
    if key in UNLIKE:
        assert any(value for value in mapping["global"].values()), UNLIKE[key]
        return
    if case["case"] == "no unseen video":
        assert mapping["global"]["J&F-Mean"] is None
        assert mapping["global"]["J-unseen-Mean"] is None
        agree(mapping["global"], {k: v for k, v in case["official"]["set"].items() if v != "nan"})
        return
    check(mapping, case["official"])


def test_every_case_has_one_outcome() -> None:
    keys = {(name, case["case"]) for name, case in cases()}
    assert OURS.keys() | NOTED.keys() | UNLIKE.keys() <= keys
    assert not OURS.keys() & (NOTED.keys() | UNLIKE.keys())

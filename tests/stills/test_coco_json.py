"""COCO files as other tools write them give the same index as COCO's own way."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.stills.coco import CocoIndex
from stmdata.stills.coco_json import box_of, is_crowd, parse_id
from tests.coco_files import SQUARE, document, full_mask, note, write
from tests.profiles import examples

Change = Callable[[dict[str, Any]], None]


def seen(index: CocoIndex) -> list[object]:
    """Everything in the index but names, as text."""
    found = []
    for i in range(index.images):
        image = index.image(i)
        parts = [(repr(o.segmentation), o.crowd, o.unusable) for o in index.instances(i)]
        found.append((image.height, image.width, parts))
    return found


def each(*names: str, value: Callable[[Any], Any]) -> Change:
    """Change fields of every image and annotation that has them, or add them where absent."""

    def change(entry: dict[str, Any]) -> None:
        for name in names:
            entry[name] = value(entry.get(name))

    return change


PLAIN = document(
    annotations=[
        note(11, 5, [SQUARE], iscrowd=0, category_id=1, area=1.0, bbox=[5, 5, 20, 13]),
        note(12, 7, [SQUARE], iscrowd=0, category_id=1, area=1.0, bbox=[5, 5, 20, 13]),
        note(13, 5, [SQUARE], iscrowd=1, category_id=1, area=1.0, bbox=[5, 5, 20, 13]),
    ]
)
NOTHING = [None, "", "0", 0, 0.0, [], {}, "thing", [1, 2], True]
WAYS: dict[str, tuple[Change | None, Change | None]] = {
    "VIA: text ids": (None, each("image_id", "id", value=str)),
    "VIA: flat polygons": (None, each("segmentation", value=lambda parts: parts[0])),
    "pandas: floats": (
        each("id", "height", "width", value=float),
        each("id", "image_id", "iscrowd", value=float),
    ),
    "pandas: text": (
        each("id", "height", "width", value=str),
        each("id", "image_id", "iscrowd", value=str),
    ),
    "pandas: text of floats": (
        each("id", "height", "width", value=lambda n: f"{n}.0"),
        each("id", "image_id", "iscrowd", value=lambda n: f"{n}.0"),
    ),
    "coordinates as text": (None, each("segmentation", value=lambda p: [[*map(str, p[0])]])),
    "UUIDs": (
        each("id", value=lambda n: f"2f1c-{n}"),
        each("image_id", value=lambda n: f"2f1c-{n}"),
    ),
    "FiftyOne": (
        each("license", "coco_url", "date_captured", value=lambda v: v),
        each("supercategory", value=lambda _: None),
    ),
    "no id": (None, lambda entry: entry.pop("id")),
    "truth values": (None, each("iscrowd", value=bool)),
    **{
        f"{field} = {value!r}": (None, each(field, value=lambda _, v=value: v))
        for field in ("category_id", "area", "bbox")
        for value in NOTHING
    },
}


def changed(way: str) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(json.dumps(PLAIN))
    for change, entries in zip(WAYS[way], (out["images"], out["annotations"]), strict=True):
        for entry in entries if change else ():
            change(entry)
    return out


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_writing_gives_the_same_index(tmp_path: Path, way: str) -> None:
    expected = CocoIndex.open(write(tmp_path, PLAIN, "plain.json"))
    assert seen(CocoIndex.open(write(tmp_path, changed(way)))) == seen(expected)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_every_encoding_of_json_is_read(tmp_path: Path, encoding: str) -> None:
    expected = CocoIndex.open(write(tmp_path, PLAIN, "plain.json"))
    path = tmp_path / "other.json"
    path.write_bytes(json.dumps(PLAIN).encode(encoding))
    assert seen(CocoIndex.open(path)) == seen(expected)


def test_nan_where_nothing_is_decided(tmp_path: Path) -> None:
    text = json.dumps(PLAIN).replace('"area": 1.0', '"area": NaN')
    assert "NaN" in text
    expected = CocoIndex.open(write(tmp_path, PLAIN, "plain.json"))
    assert seen(CocoIndex.open(write(tmp_path, text))) == seen(expected)


def test_a_missing_iscrowd_and_null_mean_no(tmp_path: Path) -> None:
    for value in ("null", '""', '"0"', "[]", "{}", "false"):
        text = json.dumps(PLAIN).replace('"iscrowd": 1', f'"iscrowd": {value}')
        index = CocoIndex.open(write(tmp_path, text))
        assert not any(one.crowd for i in range(3) for one in index.instances(i))


@given(st.integers(-(10**39), 10**39))
@examples(40)
def test_an_id_is_the_same_as_number_and_as_text(number: int) -> None:
    assert parse_id(number) == parse_id(str(number)) == parse_id(f"{number}.0") == number
    assert parse_id(float(number)) in (int(float(number)), str(int(float(number))))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists))
@examples(60)
def test_fields_that_decide_nothing_may_hold_anything(value: object) -> None:
    assert isinstance(is_crowd(value), bool)
    assert box_of(value) is None or len(box_of(value) or ()) == 4
    assert parse_id(value) is None or isinstance(parse_id(value), int | str)


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.sampled_from(["size", "counts", "x"]), inner, max_size=2)
    ),
    max_leaves=8,
)
shapes = values | st.fixed_dictionaries(
    {"size": st.just([20, 30]) | values, "counts": st.just([600]) | st.just("h\u00d6") | values}
)


@given(st.lists(shapes, max_size=5), values)
@examples(120)
def test_any_annotation_is_usable_or_has_a_reason(shapes: list[object], other: object) -> None:
    """Whatever JSON a file holds, only ids and sizes of images can stop it."""
    annotations = [note(other, 7, shape, bbox=other, iscrowd=other) for shape in shapes]  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), document(annotations=annotations))
        index = CocoIndex.open(path, Path(folder))
        found = index.instances(0)
        assert len(found) == len(shapes)
        for instance in found:
            assert bool(instance.unusable) == (instance.segmentation == ())
            if not instance.unusable:
                full_mask(instance, 20, 30)

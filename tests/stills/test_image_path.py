"""Paths of images as tools write them: found inside the images folder, and never outside."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.stills.image_path import find_image, path_parts, unique_tails
from stmtrain.errors import DataError
from tests.profiles import examples


def find(folder: Path, name: str, *others: str) -> Path:
    return find_image(folder, name, unique_tails([name, *others])[0], "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``train2017`` with ``a.jpg``, ``b c.jpg`` and ``sub/a.jpg``."""
    (tmp_path / "train2017" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b c.jpg", "sub/a.jpg", "../outside.jpg"):
        (tmp_path / "train2017" / name).write_bytes(b"x")
    return tmp_path / "train2017"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("sub/a.jpg", "sub/a.jpg"),
        ("train2017/a.jpg", "a.jpg"),  # LVIS, given COCO's folder
        ("images/1/a.jpg", "a.jpg"),  # Label Studio: folder of the project
        ("images\\a.jpg", "a.jpg"),  # ... on Windows
        ("..\\..\\media\\upload\\1\\a.jpg", "a.jpg"),
        ("../../label-studio/media/upload/1/b c.jpg", "b c.jpg"),
        ("/data/upload/1/b%20c.jpg", "b c.jpg"),
        ("/data/local-files/?d=project%2Fsub/a.jpg", "sub/a.jpg"),
        ("http://localhost:8080/data/upload/1/b%20c.jpg?token=1", "b c.jpg"),
        ("s3://bucket/sub/a.jpg", "sub/a.jpg"),
        ("file:///home/me/a.jpg", "a.jpg"),
        ("C:\\Users\\me\\sub\\a.jpg", "sub/a.jpg"),
        ("/home/me/train2017/sub/a.jpg", "sub/a.jpg"),
    ],
)
def test_every_way_of_writing_a_path(folder: Path, name: str, place: str) -> None:
    assert find(folder, name) == folder / place


def test_a_folder_above_is_searched_as_annotated(folder: Path) -> None:
    assert find(folder.parent, "train2017/a.jpg") == folder / "a.jpg"


@pytest.mark.parametrize(
    "name",
    ["../outside.jpg", "/etc/passwd", "sub/../../outside.jpg", "a\0.jpg", "", ".", "x" * 300],
)
def test_no_path_leads_out_of_the_folder(folder: Path, name: str) -> None:
    with pytest.raises(DataError, match="image 1 is missing"):
        find(folder, name)


@given(st.text("ab./\\:%C?d=", max_size=20))
@examples(60)
def test_parts_are_plain_names(name: str) -> None:
    assert not any("/" in p or "\\" in p or p in ("", ".", "..") for p in path_parts(name))


def test_folders_are_not_dropped_where_they_tell_images_apart(folder: Path) -> None:
    (folder / "sub" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r'"a.jpg" is there, but several images have this name'):
        find(folder, "other/a.jpg", "sub/a.jpg")
    assert find(folder, "train2017/a.jpg", "val2017/a.jpg") == folder / "a.jpg"


@pytest.mark.parametrize("name", ["A.JPG", "a.png", "deep/a.jpeg"])
def test_a_similar_name_is_pointed_out(folder: Path, name: str) -> None:
    with pytest.raises(DataError, match=r'; there is "a.jpg"'):
        find(folder, name)


@given(st.lists(st.text("ab/", min_size=1, max_size=9), min_size=1, max_size=12))
@examples(60)
def test_a_tail_names_one_image_only(names: list[str]) -> None:
    parts = [path_parts(name) for name in names]
    for i, tail in enumerate(unique_tails(names)):
        assert tail >= 1
        if tail < len(parts[i]):
            others = [p for k, p in enumerate(parts) if k != i]
            assert all(p[-tail:] != parts[i][-tail:] for p in others)


def test_equal_and_very_deep_names_need_all_parts() -> None:
    deep = "x/" * 300
    assert unique_tails(["a/b.jpg", "a/b.jpg", f"1/{deep}c.jpg", f"2/{deep}c.jpg"]) == [
        2,
        2,
        255,
        255,
    ]

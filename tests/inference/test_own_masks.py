"""Masks that a user gives."""

from pathlib import Path

from stmtrain.inference.own_masks import read_masks
from stmtrain.inference.own_video import open_frames
from tests.datasets.trees import box
from tests.inference.own import SIZE, save


def test_several_masks_of_one_frame_lie_over_each_other(folder: Path, tmp_path: Path) -> None:
    a = save(tmp_path / "a.png", box(255, 4), palette=False)
    b = save(tmp_path / "b.png", box(255, 12), palette=False)
    given = read_masks([str(a), f"0={b}"], open_frames(folder), SIZE)
    assert list(given.masks) == [0]
    assert ((given.masks[0] == 1) == (box(1, 4) > 0)).all()
    assert ((given.masks[0] == 2) == ((box(1, 12) > 0) & (box(1, 4) == 0))).all()


def test_a_later_mask_of_a_known_object_corrects_it(folder: Path, tmp_path: Path) -> None:
    a, b = (save(tmp_path / f"{n}.png", box(3, left)) for n, left in (("a", 4), ("b", 12)))
    given = read_masks([f"2={b}", str(a)], open_frames(folder), SIZE)
    assert list(given.masks) == [0, 2]
    assert given.given_in == {3: (0, a)}

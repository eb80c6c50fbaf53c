"""Every data set that can be packed can be scored, from its tree and from its shards alike."""

from pathlib import Path

import numpy as np
import pytest

from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.packed import packed_set
from stmtrain.datasets.tree import open_dataset
from stmtrain.images.encode import encode_mask
from stmtrain.scoring.score import score_results
from tests.datasets.drawn import draw
from tests.packing.test_layouts import DRAWN
from tests.sets import pack_videos


@pytest.mark.parametrize("layout", DRAWN)
def test_scores_do_not_depend_on_where_the_videos_are(tmp_path: Path, layout: str) -> None:
    draw(find_dataset(layout), tmp_path / "tree", "my clip.v1")
    tree = open_dataset(tmp_path / "tree", layout).open("train" if layout == "sav-val" else None)
    pack_videos(layout, tmp_path / "tree", None, tmp_path / "packed")
    packed = packed_set(tmp_path / "packed")
    (mine,), (theirs,) = tree.videos, packed.videos
    assert (mine.name, list(mine.frames), list(mine.masks)) == (
        theirs.name,
        list(theirs.frames),
        list(theirs.masks),
    )
    assert dict(mine.first_seen) == dict(theirs.first_seen)
    for name in mine.masks:
        mask = mine.read_mask(name)
        np.testing.assert_array_equal(mask, theirs.read_mask(name))
        path = tmp_path / "results" / mine.name / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_mask(mask))
    for videos in (tree, packed):
        scores = score_results(tmp_path / "results", videos)
        assert len(scores.objects) == 3
        assert all(value == 1 for one in scores.objects for value in one.j_values)

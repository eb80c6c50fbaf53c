"""Results of a drawn data set."""

import shutil

import numpy as np
import pytest

from stmdata.drawn.trees import draw_davis
from stmtrain.datasets.dataset import find_dataset
from stmtrain.images.encode import encode_mask


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos of 1, 2 and 3 objects, 12 frames of 80x112."""
    root = tmp_path_factory.mktemp("davis")
    draw_davis(root, videos=3, val=3, frames=12, size=(80, 112), ids=(1, 3, 4))
    return find_dataset("davis2017").videos(root, "val")


@pytest.fixture
def folders(videos, tmp_path):
    """A perfect result, and one that loses every object in frame 5 and lacks the last video."""
    for name in ("good", "bad"):
        for video in videos:
            shutil.copytree(video.masks["00000"].parent, tmp_path / name / video.name)
    shutil.rmtree(tmp_path / "bad" / videos[2].name)
    for video in videos[:2]:
        (tmp_path / "bad" / video.name / "00005.png").write_bytes(
            encode_mask(np.zeros((80, 112), np.uint8))
        )
    return {"good": tmp_path / "good", "bad": tmp_path / "bad"}

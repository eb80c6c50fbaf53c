"""The hypothesis profile, and drawn data sets that tests share and never change.

A test that changes a data set copies it to ``tmp_path`` first.
"""

import os
from pathlib import Path

# Test processes share the cores: a thread pool in each would only make them wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from stmdata.drawn.trees import draw_coco, draw_davis, draw_youtube_vos
from stmdata.packing.clips import ClipOptions
from tests.profiles import load_profile
from tests.sets import pack_coco, pack_davis

load_profile()


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests out of the user's cache folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def coco_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images in ``train2017``, ``annotations/instances_train2017.json``."""
    return draw_coco(tmp_path_factory.mktemp("coco"), images=12, size=(120, 160))


@pytest.fixture(scope="session")
def davis_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DAVIS-2017: videos of 1, 2 and 3 objects, ids 1, 3, 4; two in train, the last in val."""
    return draw_davis(tmp_path_factory.mktemp("davis"), ids=(1, 3, 4), size=(80, 112))


@pytest.fixture(scope="session")
def davis2016_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DAVIS-2016: grey 0/255 masks, the last one of ``drawn-00`` with an alpha channel."""
    return draw_davis(tmp_path_factory.mktemp("davis2016"), 2016, size=(80, 112))


@pytest.fixture(scope="session")
def youtube_vos_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YouTube-VOS: two train videos and one valid video, masks on every fifth frame."""
    return draw_youtube_vos(tmp_path_factory.mktemp("youtube_vos"), size=(80, 112))


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory, davis_tree: Path) -> Path:
    """Drawn videos, one per shard."""
    out = tmp_path_factory.mktemp("verify") / "davis"
    pack_davis(davis_tree, 2017, "train", out, workers=1, shard_bytes=1)
    return out


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory, coco_tree: Path) -> Path:
    """Pseudo-video clips of drawn images, five per shard."""
    out = tmp_path_factory.mktemp("verify") / "clips"
    pack_coco(coco_tree, out, ClipOptions(size=64, clips_per_shard=5))
    return out

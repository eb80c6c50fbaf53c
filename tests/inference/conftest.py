"""A network, its checkpoint, and drawn data sets that the tests of this folder share."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from stmdata.drawn.trees import draw_davis, draw_youtube_vos
from stmtrain.inference import evaluate as evaluate_module
from stmtrain.model import STM
from tests.datasets.trees import SIZE
from tests.inference.own import picture


@pytest.fixture(scope="session")
def model() -> STM:
    """A small network with random weights."""
    torch.manual_seed(0)
    return STM("resnet18").eval()


@pytest.fixture
def loaded_once(model: STM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate with a model that is already in memory."""
    origin = {"file": "r18.pth", "backbone": "resnet18", "recipe": None, "trained": "nothing"}
    monkeypatch.setattr(evaluate_module, "load_model_and_origin", lambda _: (model, origin))
    monkeypatch.setattr(evaluate_module, "_sha256", lambda path: path.name)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "r18.pth"
    torch.save(STM("resnet18").state_dict(), path)
    return path


@pytest.fixture(scope="session")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_davis(
        tmp_path_factory.mktemp("davis"), videos=3, val=2, frames=4, size=SIZE, ids=(2, 7, 9)
    )


@pytest.fixture(scope="session")
def davis2016(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("davis2016")
    return draw_davis(root, 2016, videos=2, val=1, frames=4, size=SIZE)


@pytest.fixture(scope="session")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_youtube_vos(tmp_path_factory.mktemp("youtube"), frames=11, size=SIZE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six JPEG frames, ``00000`` to ``00005``."""
    out = tmp_path / "frames"
    out.mkdir()
    for t in range(6):
        Image.fromarray(picture(t)).save(out / f"{t:05d}.jpg")
    return out

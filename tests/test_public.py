"""The public interface: what the packages export, and the examples that show it."""

import ast
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stmdata
import stmtrain
from tests.desk import draw_desk
from tests.paths import ROOT

PACKAGES = (stmdata, stmtrain)
EXAMPLES = re.findall(
    r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```",
    (ROOT / "docs" / "python.md").read_text(),
    re.M | re.S,
)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_exported_name_is_there_and_documented(package) -> None:
    assert sorted(dir(package)) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_type_checkers_see_what_is_exported(package) -> None:
    tree = ast.parse(Path(package.__file__).read_text())
    found = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package.__name__)
        for alias in node.names
    }
    assert sorted(found) == sorted(package.__all__)
    for name, module in found.items():
        assert getattr(import_module(module), name) is getattr(package, name)


def test_importing_the_packages_loads_nothing() -> None:
    code = "import sys, stmdata, stmtrain; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert {"stmdata", "stmtrain"} <= set(done.stdout.split())
    assert not {"numpy", "torch", "cv2", "PIL"} & set(done.stdout.split())


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all the files that the examples name, drawn and small."""
    return draw_desk(tmp_path_factory.mktemp("public"))


@pytest.mark.filterwarnings(  # webdataset leaves files open, DataLoader forks its workers
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:.*fork:DeprecationWarning",
)
@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_the_example_runs(
    title: str, code: str, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has ten lines of code or fewer, and does what its comments state."""
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 10
    shutil.copytree(desk, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    names: dict[str, object] = {}
    exec(compile(code, title, "exec"), names)
    CHECKS[title](names)


def check_sample(names) -> None:
    sample = names["sample"]
    time, height, width = sample.masks.shape
    assert sample.frames.shape == (time, height, width, 3)
    assert sample.frames.dtype == sample.masks.dtype == np.uint8
    assert set(np.unique(sample.masks)) == {0, *sample.record.object_ids}


def check_batches(names) -> None:
    assert names["batch"].step == 2
    assert names["frames"].shape == (2, 3, 3, 384, 384)
    assert names["masks"].shape == (2, 3, 384, 384)
    assert 0 <= names["frames"].min() <= names["frames"].max() <= 1


def check_webdataset(names) -> None:
    assert names["frames"].shape[:3] == names["masks"].shape
    assert {0, 1} <= set(np.unique(names["masks"])) <= {0, 1, 2}


def check_segmentation(names) -> None:
    written = sorted(path.name for path in Path().glob("0*.png"))
    assert written == [f"{t:05d}.png" for t in range(len(names["frames"]))]
    assert np.array_equal(np.asarray(Image.open(written[0])), names["first"])


def check_clip(names) -> None:
    assert names["clip"].frames.shape == (5, 256, 256, 3)
    assert names["clip"].masks.shape == (5, 256, 256)
    assert names["clip"].masks[0].max() >= 1
    with Image.open("clip.png") as image:
        assert image.size == (5 * 256, 256)


def check_scores(names) -> None:
    assert names["scores"].j_and_f == 1


def check_sets(names) -> None:
    manifest = names["manifest"]
    assert manifest.config["variants"] == 2
    assert manifest.config["recipe"]["family"] == "classic"
    sample = stmtrain.open_shards("shards/classic")[0]
    assert sample.frames.shape == (3, 128, 128, 3)
    assert manifest.totals["samples"] == len(stmtrain.open_shards("shards/classic"))
    assert min(stmtrain.open_shards("shards/small")[0].masks.shape[1:]) == 64


CHECKS = {
    "Look at a sample": check_sample,
    "Iterate over batches": check_batches,
    "Read a set in a webdataset pipeline": check_webdataset,
    "Segment your own frames": check_segmentation,
    "Synthesise a clip": check_clip,
    "Prepare a shard set": check_sets,
    "Score results": check_scores,
}


def test_the_page_names_no_other_name() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    for package in PACKAGES:
        for name in re.findall(rf"{package.__name__}\.(\w+)", page):
            assert name in package.__all__

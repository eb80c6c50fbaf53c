"""Shards and finished runs that the tests of training share and never change."""

from pathlib import Path

import pytest

from tests.sets import pack_davis
from tests.training.runs import EVERYTHING, train_quietly


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory, davis_tree: Path) -> Path:
    """Two drawn videos."""
    out = tmp_path_factory.mktemp("shards") / "davis"
    pack_davis(davis_tree, 2017, "train", out, workers=1)
    return out


@pytest.fixture(scope="session")
def straight(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was not interrupted."""
    out = tmp_path_factory.mktemp("run") / "straight"
    train_quietly(shards, out)
    return out


@pytest.fixture(scope="session")
def done(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with every option and every kind of record."""
    out = tmp_path_factory.mktemp("run") / "done"
    train_quietly(shards, out, EVERYTHING, val=shards)
    return out

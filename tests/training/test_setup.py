"""Options become shard sets with weights and a model, or are refused."""

from pathlib import Path

import pytest

from stmtrain.errors import UsageError
from stmtrain.train import train
from stmtrain.training.setup import parse_shards
from tests.training.runs import EVERYTHING, options


def test_shard_sets_are_folders_with_weights() -> None:
    assert parse_shards(["a", "b=0.5", "c=d=2"]) == (
        (Path("a"), Path("b"), Path("c=d")),
        (1.0, 0.5, 2.0),
    )
    for bad, message in (("a=x", "with a number"), ("a=0", "above 0"), ("a=nan", "above 0")):
        with pytest.raises(UsageError, match=message):
            parse_shards([bad])


def test_an_unknown_backbone_is_a_usage_error(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--backbone vgg: expected one of resnet50"):
        train(options(shards, tmp_path, backbone="vgg"), EVERYTHING, lambda *_: None)
    assert not list(tmp_path.iterdir())

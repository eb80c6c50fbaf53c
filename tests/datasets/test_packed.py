"""Videos of shard sets."""

from pathlib import Path

import pytest

from stmtrain.datasets.packed import ShardVideo
from stmtrain.shards.sample import SampleRecord


@pytest.mark.parametrize(("dataset", "seen"), [("own", {4: "b", 9: "c"}), ("davis2017", {})])
def test_shards_say_when_objects_appear(dataset: str, seen: dict[int, str]) -> None:
    """In DAVIS the first frame gives all objects; elsewhere the first mask that shows them."""
    origin = {"dataset": dataset}
    areas = ((0, 5, 5), (0, 0, 7))
    record = SampleRecord(
        "x", 8, 8, ("a", "b", "c"), ("a", "b", "c"), (4, 9), areas, (8, 8), origin
    )
    video = ShardVideo(Path(), 0, record, None)  # type: ignore[arg-type]
    assert video.first_seen == seen
    first = SampleRecord("x", 8, 8, ("a", "b"), ("a",), (4,), ((5,),), (8, 8), origin)
    assert ShardVideo(Path(), 0, first, None).first_seen == {}  # type: ignore[arg-type]

"""``config.json``: it reads back as it was written, and nothing else does."""

import json

import pytest

from stmdata.packing.config import SetConfig
from stmtrain.errors import ShardError

CONFIG = SetConfig({"seed": 1, "frames": (2, 3), "name": "ä"}, ("a-0.tar", "a-1.tar"))


def test_it_reads_back() -> None:
    data = CONFIG.to_json()
    assert SetConfig.from_json(data, "c") == CONFIG
    assert CONFIG.config["frames"] == [2, 3]
    value = json.loads(data)
    assert (value["config_hash"], value["shards"]) == (CONFIG.hash, ["a-0.tar", "a-1.tar"])


@pytest.mark.parametrize(
    "shards", [("a.tar", "a.tar"), ("a/b.tar",), ("manifest.tar",), ("config.tar",), ("a",)]
)
def test_names_that_no_shard_has(shards: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="distinct plain shard names"):
        SetConfig({}, shards)
    value = CONFIG.to_mapping() | {"shards": shards}
    with pytest.raises(ShardError, match="c: is damaged"):
        SetConfig.from_json(json.dumps(value).encode(), "c")


@pytest.mark.parametrize(
    "change",
    [{"config": {}}, {"config_hash": "0"}, {"format_version": 2}, {"format": "x"}, {"more": 1}],
)
def test_a_changed_file_is_refused(change: dict[str, object]) -> None:
    value = CONFIG.to_mapping() | change
    with pytest.raises(ShardError, match="c: contradicts itself; it was edited"):
        SetConfig.from_json(json.dumps(value).encode(), "c")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"config": 1, "shards": []}', b"\xff"])
def test_damage_is_one_line(data: bytes) -> None:
    with pytest.raises(ShardError, match="c: is damaged"):
        SetConfig.from_json(data, "c")

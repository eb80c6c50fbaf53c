"""Names in shards: plain, distinct, and the data set's own where these are."""

import re

from hypothesis import given
from hypothesis import strategies as st

from stmdata.packing.names import frame_names, sample_keys
from stmdata.packing.tar import header_bytes

NAMES = st.text(min_size=1, max_size=90) | st.sampled_from(
    ["a b", "a_b", "a.b", "A_b", "é", "x" * 70]
)
PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


@given(st.lists(st.tuples(st.sampled_from(["train", "val"]), NAMES), unique=True, max_size=9))
def test_keys_are_plain_distinct_and_the_names_where_possible(
    videos: list[tuple[str, str]],
) -> None:
    keys = sample_keys(videos, reserve=4)
    assert len(set(keys)) == len(keys)
    for (_, name), key in zip(videos, keys, strict=True):
        assert PLAIN.fullmatch(key)
        assert len(key) <= 60
        alone = sum(re.sub(r"[^A-Za-z0-9_-]", "_", other) == name for _, other in videos) == 1
        if PLAIN.fullmatch(name) and len(name) <= 60 and alone:
            assert key == name
    assert sample_keys(videos[::-1], reserve=4) == keys[::-1]


@given(st.lists(NAMES, unique=True, min_size=1, max_size=9), st.integers(1, 64))
def test_frames_fit_a_tar_and_keep_their_names_where_possible(names: list[str], key: int) -> None:
    found = frame_names(names, "k" * key)
    assert len(set(found)) == len(names)
    for name in found:
        header_bytes(f"{'k' * key}.{name}.jpg", 1)
    plain = all(re.fullmatch(r"[A-Za-z0-9_-]{1,30}", name) for name in names)
    assert not plain or found == tuple(names)


def test_names_of_known_data_sets() -> None:
    argoverse = [f"ring_front_center_{315971768012624488 + t}" for t in range(3)]
    (key,) = sample_keys([("val", "ArgoVerse/aebe6aaa-6a95-39e6-9a8d-06103141fcde")])
    assert key == "ArgoVerse_aebe6aaa-6a95-39e6-9a8d-06103141fcde"
    assert frame_names(argoverse, key) == tuple(argoverse)
    assert sample_keys([("", "my clip"), ("", "IMG_0042.MOV")]) == ["my_clip", "IMG_0042_MOV"]
    twice = sample_keys([("train", "a"), ("val", "a")])
    assert len(set(twice)) == 2
    assert all(re.fullmatch(r"a-[0-9a-f]{8}", key) for key in twice)
    assert frame_names(["a.1", "a_1"], "k") == ("00000", "00001")

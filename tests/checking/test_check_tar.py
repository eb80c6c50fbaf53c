"""Every changed byte of a tar is named with sample, member and place, despite other damage."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.checking.verify import verify
from stmtrain.errors import ShardError
from stmtrain.shards.manifest import Sidecar
from stmtrain.shards.reader import ShardSet
from tests.profiles import examples
from tests.shard_edits import accept, edit, first, texts
from tests.soak.shard_faults import with_other_pixels


@pytest.fixture
def broken(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "set"))


def layout(sidecar: Sidecar) -> list[tuple[int, int, str, str]]:
    """Return (first byte, byte after the last, key, suffix) of members, header to padding."""
    found = [
        (offset - 512, offset + -(-size // 512) * 512, record.key, suffix)
        for record in sidecar.index
        for suffix, (offset, size) in record.members.items()
    ]
    return sorted(found)


@examples(120)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), data=st.data())
def test_every_byte_of_a_tar_is_named(
    clips: Path, where: float, bit: int, data: st.DataObject, tmp_path_factory: Any
):
    """One fault names the sample, the member and the bytes around the changed one."""
    folder = Path(shutil.copytree(clips, tmp_path_factory.mktemp("named") / "set"))
    path, sidecar = first(folder)
    members = layout(sidecar)
    edges = [byte for start, stop, _, _ in members for byte in (start, stop - 1)]
    byte = data.draw(st.sampled_from([int(where * sidecar.bytes), *edges]))
    edit(path, lambda content: content.__setitem__(byte, content[byte] ^ 1 << bit))
    (fault,) = verify(folder).faults
    assert fault.shard == path.name
    assert fault.span is not None
    assert fault.span[0] <= byte < fault.span[1]
    owners = [(key, suffix) for start, stop, key, suffix in members if start <= byte < stop]
    if owners:
        ((key, suffix),) = owners
        assert fault.sample == key
        assert fault.text.startswith(f"{path}, sample {key}, member {suffix}")
    else:
        assert fault.text.startswith(f"{path}, end mark, bytes {members[-1][1]} to ")


def test_a_byte_that_still_decodes_is_named(broken: Path):
    path, sidecar = first(broken)
    record = sidecar.index[0]
    offset, size = record.members["00003.jpg"]
    decodes_otherwise(path, offset, size)
    assert texts(verify(broken)).startswith(
        f"{path}, sample {record.key}, member 00003.jpg, bytes {offset} to {offset + size - 1}: "
        "crc32 is "
    )
    assert verify(broken).bad_shards == (path.name,)


def decodes_otherwise(path: Path, offset: int, size: int) -> None:
    """Change a byte of a JPEG in a tar so that it decodes, to other pixels."""
    inside, rng = slice(offset, offset + size), np.random.default_rng(0)
    edit(path, lambda tar: tar.__setitem__(inside, with_other_pixels(bytes(tar[inside]), rng)))


def test_each_of_many_faults_is_named(broken: Path):
    path, sidecar = first(broken)
    members = layout(sidecar)
    wanted = [(members[n][0], *members[n][2:]) for n in (0, 3, 4, 9)]
    for start, _, _, _ in (members[n] for n in (0, 3, 4, 9)):
        edit(path, lambda data, at=start: data.__setitem__(at + 600, data[at + 600] ^ 255))
        edit(path, lambda data, at=start: data.__setitem__(at + 50, data[at + 50] ^ 255))
    found = verify(broken).faults
    assert len(found) == 8
    for start, key, suffix in wanted:
        (header, data) = [f for f in found if f"sample {key}, member {suffix}" in f.text]
        assert f"its header, bytes {start} to {start + 511}, is not" in header.text
        assert f"name; first byte {start + 50}" in header.text
        assert f", bytes {start + 512} to " in data.text


@pytest.mark.parametrize("change", ["insert", "delete", "cut"])
def test_damage_to_the_end_is_named_in_two_lines(broken: Path, change: str):
    path, sidecar = first(broken)
    record = sidecar.index[0]
    offset, size = record.members["00002.jpg"]
    edit(path, lambda data: {
        "insert": lambda: data.__setitem__(slice(offset + 7, offset + 7), b"new"),
        "delete": lambda: data.__delitem__(slice(offset + 7, offset + 90)),
        "cut": lambda: data.__delitem__(slice(offset + 7, None)),
    }[change]())  # fmt: skip
    faults = verify(broken).faults
    assert all(fault.sample == record.key for fault in faults)
    at_first, *others = (fault.text for fault in faults)
    assert at_first.startswith(f"{path}, sample {record.key}, member 00002.jpg")
    assert f"bytes {offset} to {offset + size - 1}" in at_first
    behind = len(record.members) - sorted(m[0] for m in record.members.values()).index(offset) - 1
    assert len(others) <= 2
    assert f"member 00002.png to sample {record.key}, member json, bytes " in others[-1]
    assert f"these {behind} members and the end mark differ" in others[-1]
    if change == "cut":
        assert f"the file ends at byte {offset + 7}, expected its data" in at_first


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (slice(136, 148), b"00000000001\0", "time and checksum; first byte 146"),
        (slice(108, 116), b"0001750\0", "owner and checksum; first byte 111"),
        (slice(156, 157), b"2", "checksum and type; first byte 153"),
        (slice(156, 157), b"L", "checksum and type; first byte 152"),
        (slice(0, 3), b"../", "name and checksum; first byte 0"),
        (slice(124, 136), b"\x80" + bytes(10) + b"\xff", "size and checksum;"),
        (slice(345, 346), b"/", "checksum and name's prefix;"),
    ],
)
def test_headers_of_a_consistent_set(broken: Path, place: slice, value: bytes, message: str):
    path, _ = first(broken)

    def change(data: bytearray) -> None:
        data[place] = value
        data[148:156] = b" " * 8
        data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()

    edit(path, change)
    accept(broken)
    result = verify(broken)
    assert "member 00000.jpg: its header, bytes 0 to 511, is not the one that stm" in texts(result)
    assert message in texts(result)
    assert result.bad_shards == (path.name,)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (bytes(512) + b"hidden" + bytes(506), "expected zeros only, found 0x68 at byte {at}"),
        (bytes(10240), "the file ends at byte {longer}, expected {size}"),
    ],
)
def test_something_after_the_end_mark(broken: Path, more: bytes, message: str):
    path, _ = first(broken)
    size = path.stat().st_size
    edit(path, lambda data: data.extend(more))
    accept(broken)
    message = message.format(at=size + 512, size=size, longer=size + len(more))
    assert f"{path}, end mark, bytes " in texts(verify(broken))
    assert message in texts(verify(broken))


def test_a_tar_without_its_end_mark(broken: Path):
    path, sidecar = first(broken)
    end, size = layout(sidecar)[-1][1], path.stat().st_size
    edit(path, lambda data: data.__delitem__(slice(end, None)))
    accept(broken)
    line = (
        f"{path}, end mark, bytes {end} to {size - 1}: the file ends at byte {{}}, expected {size}"
    )
    assert texts(verify(broken)) == line.format(end)
    edit(path, lambda data: data.extend(bytes(600)))
    accept(broken)
    assert texts(verify(broken)) == line.format(end + 600)


def test_members_that_the_index_does_not_know(broken: Path):
    path, sidecar = first(broken)
    after = layout(sidecar)[-1][1]
    edit(path, lambda data: data.__setitem__(slice(after, after), data[: layout(sidecar)[1][0]]))
    accept(broken)
    assert f"at byte {after}" in texts(verify(broken))


def test_an_index_with_a_hole(broken: Path):
    path, sidecar = first(broken)
    (start, _, key, suffix), *_ = layout(sidecar)[1:]
    edit(path, lambda data: data.__setitem__(slice(start, start), bytes(512)))
    value = json.loads(path.with_suffix(".json").read_bytes())
    for place in value["index"][0]["members"].values():
        place[0] += 512 * (place[0] > start)
    path.with_suffix(".json").write_text(json.dumps(value))
    accept(broken)
    assert (
        f"sample {key}, member {suffix}: the index puts it at byte {start + 1024}, expected byte "
        f"{start + 512}, right after the previous member"
    ) in texts(verify(broken))


# --- sets from before CRCs were recorded ----------------------------------------------------------


@pytest.fixture
def old(broken: Path) -> Path:
    for path in broken.glob("*-0*.json"):
        value = json.loads(path.read_bytes())
        for record in value["index"]:
            del record["crc32"]
        path.write_text(json.dumps(value))
    accept(broken)
    return broken


def test_sets_without_crcs_are_read_and_verified(old: Path, packed: Path):
    assert "crc32" not in "".join(path.read_text() for path in old.glob("*.json"))
    assert (verify(old).faults, verify(old).notes) == ((), ())
    ours, theirs = ShardSet.open(old), ShardSet.open(packed)
    assert [ours.read(i) for i in range(len(ours))] == [theirs.read(i) for i in range(len(theirs))]


def test_a_change_in_a_set_without_crcs_is_named_where_it_can_be(old: Path):
    path, sidecar = first(old)
    offset, size = sidecar.index[0].members["00003.jpg"]
    decodes_otherwise(path, offset, size)
    (fault,) = verify(old).faults
    assert f"{path}: sha256 is " in fault.text
    assert "before CRCs were recorded" in fault.text
    edit(path, lambda data: data.__setitem__(slice(offset, offset + size), bytes(size)))
    edit(path, lambda data: data.__setitem__(offset - 512, 0))
    found = texts(verify(old))
    assert f"member 00003.jpg: its header, bytes {offset - 512} to {offset - 1}, is not" in found
    assert f"member 00003.png, bytes {offset}" not in found


@pytest.mark.parametrize(
    "change",
    [{"json": 1 << 32}, {"json": -1}, {"json": "1"}, {"json": 1.0}, {"json": True}, {"other": 1}],
)
def test_crcs_that_cannot_be_are_refused(broken: Path, change: dict[str, Any]):
    path, _ = first(broken)
    value = json.loads(path.with_suffix(".json").read_bytes())
    for crc32 in (value["index"][0]["crc32"] | change, change, [1], 3):
        value["index"][0]["crc32"] = crc32
        with pytest.raises(ShardError, match="sidecar is malformed"):
            Sidecar.from_json(json.dumps(value).encode(), "sidecar")

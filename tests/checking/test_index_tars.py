"""Tars of other programs: they are read in place; the sidecar contains what they lack."""

import bz2
import gc
import gzip
import io
import json
import lzma
import subprocess
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from cli import app
from stmdata.checking import index_tars
from stmdata.checking.index_tars import index_shards
from stmdata.checking.verify import verify
from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.adapters.webdataset import decode_sample, open_webdataset
from stmtrain.errors import DataError, ShardError, StmError, UsageError
from stmtrain.images.decode import decode_mask
from stmtrain.images.encode import encode_mask
from stmtrain.shards.manifest import Sidecar
from stmtrain.shards.reader import ShardSet
from tests.profiles import examples
from tests.sets import pack_davis

Members = list[tuple[str, bytes]]


def jpeg(size: tuple[int, int] = (8, 12), grey: int = 90) -> bytes:
    data: bytes = simplejpeg.encode_jpeg(np.full((*size, 3), grey, np.uint8))
    return data


def mask(*ids: int, size: tuple[int, int] = (8, 12)) -> NDArray[np.uint8]:
    """A mask in which the i-th id has i + 1 pixels of the top row."""
    out = np.zeros(size, np.uint8)
    start = 0
    for i, object_id in enumerate(ids):
        out[0, start : start + i + 1] = object_id
        start += i + 1
    return out


def clip(key: str, names: tuple[str, ...] = ("00000", "00001")) -> Members:
    first, *rest = names
    return [
        (f"{key}.{first}.jpg", jpeg()),
        (f"{key}.{first}.png", encode_mask(mask(1, 7))),
        *[(f"{key}.{name}.jpg", jpeg(grey=40)) for name in rest],
    ]


def write_tar(path: Path, members: Members, change: Callable[[tarfile.TarInfo], None] | None = None,
              **options: int) -> Path:  # fmt: skip
    with tarfile.open(path, "w", **options) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1_700_000_000.5  # type: ignore[assignment]
            if change is not None:
                change(info)
            tar.addfile(info, io.BytesIO(data))
    return path


def digests(folder: Path) -> dict[str, str]:
    return {p.name: sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.tar")}


# --- what can be read -----------------------------------------------------------------------------


def test_records_are_worked_out_and_the_tars_stay(tmp_path: Path):
    write_tar(tmp_path / "b.tar", clip("two"))
    write_tar(tmp_path / "a.tar", [*clip("one", ("2", "10", "1")), *clip("none")[:1]])
    before = digests(tmp_path)
    manifest = index_shards(tmp_path)
    assert digests(tmp_path) == before
    assert [(s.name, s.samples) for s in manifest.shards] == [("a.tar", 2), ("b.tar", 1)]
    assert manifest.totals == {
        "samples": 3, "frames": 6, "masks": 2, "objects": 4, "skipped": 0,
        "jpg_bytes": 3 * len(jpeg()) + 3 * len(jpeg(grey=40)),
        "png_bytes": 2 * len(encode_mask(mask(1, 7))),
    }  # fmt: skip
    shard_set = ShardSet.open(tmp_path)
    assert list(shard_set.keys()) == ["one", "none", "two"]
    sample = shard_set.read(0)
    assert sample.record.frames == ("1", "2", "10")  # in order of number
    assert (sample.record.mask_frames, sample.record.object_ids) == (("2",), (1, 7))
    assert sample.record.areas == ((1,), (2,))
    assert (sample.record.height, sample.record.width) == (8, 12)
    assert (decode_mask(sample.masks["2"], "mask") == mask(1, 7)).all()
    assert shard_set.read(1).record.mask_frames == ()
    result = verify(tmp_path)
    assert (result.faults, result.notes) == ((), ())


def flip(path: Path, byte: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)


def test_a_changed_byte_is_named(tmp_path: Path):
    """Bytes of a sample, its header or its padding are named with the sample, others without."""
    readme = [("README.txt", b"hello " * 200)]
    path = write_tar(
        tmp_path / "a.tar", [*readme, *clip("one"), *readme], format=tarfile.PAX_FORMAT
    )
    whole = path.read_bytes()
    index_shards(tmp_path)
    record = Sidecar.from_json((tmp_path / "a.json").read_bytes(), "s").index[0]
    for suffix, (offset, size) in record.members.items():
        named = f"{path}, sample one, member {suffix}"
        for byte in (offset, offset + size - 1):
            flip(path, byte)
            (fault,) = verify(tmp_path).faults
            assert fault.text.startswith(
                f"{named}, bytes {offset} to {offset + size - 1}: crc32 is"
            )
            assert fault.span == (offset, offset + size)
            with pytest.raises(ShardError, match="crc32 is"):
                ShardSet.open(tmp_path).read(0)
            path.write_bytes(whole)
        flip(path, offset - 512 + 136)  # time
        (fault,) = verify(tmp_path).faults
        assert fault.text.startswith(
            f"{named}: header at byte {offset - 512} is damaged (its checksum is wrong)"
        )
        path.write_bytes(whole)
        flip(path, offset + size)
        (fault,) = verify(tmp_path).faults
        assert (
            fault.text == f"{named}: byte {offset + size}, after its data, is 0x01, expected 0x00"
        )
        path.write_bytes(whole)
    flip(path, whole.index(b"hello"))
    (fault,) = verify(tmp_path).faults
    assert fault.text.endswith("; all its samples are intact, bytes between them have changed")
    path.write_bytes(whole)
    flip(path, len(whole) - 1)
    (fault,) = verify(tmp_path).faults
    assert f"something follows at byte {len(whole) - 1}" in fault.text
    path.write_bytes(whole)
    assert verify(tmp_path).faults == ()


@pytest.mark.parametrize("workers", [1, 2])
def test_our_own_tars_read_as_they_were(davis_tree: Path, tmp_path: Path, workers: int):
    made = tmp_path / "made"
    pack_davis(davis_tree, 2017, "train", made, workers=1, shard_bytes=1)
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in made.glob("*.tar"):
        (alone / path.name).write_bytes(path.read_bytes())
    index_shards(alone, workers=workers)
    ours, theirs = ShardSet.open(made), ShardSet.open(alone)
    assert [ours.read(i) for i in range(len(ours))] == [theirs.read(i) for i in range(len(theirs))]
    assert verify(alone).faults == ()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestWarning")
def test_tars_of_webdataset_and_of_tar(tmp_path: Path):
    """Extended headers, times, owners, folders, a leading ``./``, as those tools write them."""
    webdataset = pytest.importorskip("webdataset")
    out = tmp_path / "set"
    out.mkdir()
    with webdataset.TarWriter(str(out / "a.tar"), encoder=False) as sink:
        for key in ("one", "two"):
            sink.write({"__key__": key, **{n[len(key) + 1 :]: d for n, d in clip(key)}})
    files = tmp_path / "files"
    files.mkdir()
    for name, data in clip("three"):
        (files / name).write_bytes(data)
    command = ["tar", "--sort=name", "-cf", str(out / "b.tar"), "-C", str(files), "."]
    subprocess.run(command, check=True)
    index_shards(out)
    shard_set = ShardSet.open(out)
    assert list(shard_set.keys()) == ["one", "two", "three"]
    assert dict(shard_set.read(2).frames) == {"00000": jpeg(), "00001": jpeg(grey=40)}
    assert verify(out).faults == ()
    samples = list(open_webdataset(out).map(decode_sample))
    assert [sample["record"] for sample in samples] == [shard_set.record(i) for i in range(3)]
    gc.collect()


def test_other_members_are_passed_over_and_counted(tmp_path: Path):
    members = [("readme.txt", b"hello"), *clip("one"), ("one.cls", b"4"), *clip("two")]
    members.insert(4, ("one.json", b'{"caption": "a dog"}'))
    write_tar(tmp_path / "a.tar", members)
    manifest = index_shards(tmp_path)
    assert manifest.skipped == {
        "member is not a frame, a mask or a record": 2, "record of another kind": 1
    }  # fmt: skip
    assert manifest.totals["skipped"] == 3
    assert len(ShardSet.open(tmp_path)) == 2
    assert verify(tmp_path).faults == ()


def test_indexing_again_changes_nothing_and_sees_changes(tmp_path: Path):
    write_tar(tmp_path / "a.tar", clip("one"))
    index_shards(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    (tmp_path / "a.json.0123abcd.tmp").write_text("left")
    index_shards(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    write_tar(tmp_path / "b.tar", clip("two"))
    assert "b.tar: does not belong to this set" in " ".join(verify(tmp_path).notes)
    index_shards(tmp_path)
    assert len(ShardSet.open(tmp_path)) == 2
    assert verify(tmp_path).faults == ()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (clip("one") + clip("two") + clip("one")[:1], "do not stand together in the tar"),
        (clip("one") + clip("one")[-1:], "00001.jpg occurs twice"),
        ([("one.00000.png", encode_mask(mask(1)))], "mask 00000.png has no frame"),
        ([("one.json", b"{}")], "it has no frame"),
        ([("folder/one.00000.jpg", jpeg())], r"found a\.tar: folder/one\.00000\.jpg"),
        ([], "found an empty tar"),
        ([("../one.00000.jpg", jpeg())], "would leave the folder"),
        ([("/one.00000.jpg", jpeg())], "would leave the folder"),
        ([("one.0.jpg", b"no picture")], r"sample one, 0\.jpg: expected a JPEG"),
        ([("one.0.jpg", jpeg()), ("one.0.png", b"no")], r"0\.png: expected a mask PNG"),
        ([("one.0.jpg", jpeg()), ("one.1.jpg", jpeg((4, 4)))], "must have one size"),
        (
            [("one.0.jpg", jpeg()), ("one.0.png", encode_mask(mask(1, size=(4, 4))))],
            r"0\.png has \(height, width\) \(4, 4\), 0\.jpg has \(8, 12\)",
        ),
        ([("one.0.jpg", jpeg()), ("one.0.png", encode_mask(mask(255)))], "only 0 and 255"),
        ([*clip("one"), ("one.json", b'{"sample_key": 3}')], "is malformed .*rename sample_key"),
        ([("one." + "0" * 120 + ".jpg", jpeg())], "extended header at byte 0 sets 'path'"),
        ([("kürbis.0.jpg", jpeg())], "extended header at byte 0 sets 'path'"),
    ],
)
def test_what_a_shard_cannot_hold(tmp_path: Path, members: Members, message: str):
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=message) as caught:
        index_shards(tmp_path)
    assert "a.tar" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {p.name for p in tmp_path.iterdir()} == {"a.tar", "config.json"}
    with pytest.raises(ShardError, match="incomplete"):
        ShardSet.open(tmp_path)


def test_a_record_that_names_other_members(tmp_path: Path, davis_tree: Path):
    pack_davis(davis_tree, 2017, "train", tmp_path / "made", workers=1, shard_bytes=1)
    made = sorted((tmp_path / "made").glob("*.tar"))[0]
    with tarfile.open(made) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    write_tar(tmp_path / "a.tar", members[1:])
    with pytest.raises(ShardError, match="its record names other members than the tar has"):
        index_shards(tmp_path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "is a symbolic link"),
        (tarfile.LNKTYPE, "is a hard link"),
        (tarfile.CHRTYPE, "is a device"),
        (tarfile.FIFOTYPE, "is a pipe"),
        (tarfile.GNUTYPE_SPARSE, "is a sparse file"),
        (tarfile.CONTTYPE, "is of type b'7'"),
    ],
)
def test_members_that_are_no_files(tmp_path: Path, kind: bytes, message: str):
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    write_tar(tmp_path / "a.tar", clip("one"), change, format=tarfile.USTAR_FORMAT)
    with pytest.raises(ShardError, match=f"header at byte 0: 'one.00000.jpg' {message}"):
        index_shards(tmp_path)


@pytest.mark.parametrize("key", ["GNU.sparse.major", "GNU.sparse.map", "size", "linkpath"])
def test_extended_headers_that_change_the_layout(tmp_path: Path, key: str):
    def change(info: tarfile.TarInfo) -> None:
        info.pax_headers = {key: "1"}

    write_tar(tmp_path / "a.tar", clip("one"), change, format=tarfile.PAX_FORMAT)
    with pytest.raises(ShardError, match=f"extended header at byte 0 sets '{key}'"):
        index_shards(tmp_path)


def test_an_extended_header_of_any_length_is_not_read(tmp_path: Path):
    def change(info: tarfile.TarInfo) -> None:
        info.pax_headers = {"comment": "x" * 100_000}

    write_tar(tmp_path / "a.tar", clip("one"), change, format=tarfile.PAX_FORMAT)
    with pytest.raises(ShardError, match="extended header at byte 0 has 100"):
        index_shards(tmp_path)


@examples(150)
@given(st.data())
def test_damaged_tars_end_in_one_line_or_in_a_set_that_verifies(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    folder = tmp_path_factory.mktemp("damaged")
    path = write_tar(folder / "a.tar", clip("one"), format=tarfile.PAX_FORMAT)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 1] = data.draw(st.binary(max_size=3))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    refused = ""
    try:
        index_shards(folder)
    except StmError as error:
        refused = str(error)
    if refused:
        assert "a.tar" in refused
    else:
        ShardSet.open(folder).read(0)


# --- whose folder ---------------------------------------------------------------------------------


def test_a_set_made_by_stm_is_not_indexed(davis_tree: Path, tmp_path: Path):
    pack_davis(davis_tree, 2017, "train", tmp_path, workers=1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="this set was made by stm"):
        index_shards(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UsageError, match=r"manifest\.json: this set was made by stm"):
        index_shards(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()}.items() <= before.items()


@pytest.mark.parametrize("name", ["a.json", "config.json", "manifest.json"])
def test_json_of_others_is_not_replaced(tmp_path: Path, name: str):
    write_tar(tmp_path / "a.tar", clip("one"))
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(UsageError, match="move it away first"):
        index_shards(tmp_path)
    assert json.loads((tmp_path / name).read_text()) == {"mine": 1}


@pytest.mark.parametrize("name", ["a b.tar", "manifest.tar", "é.tar"])
def test_names_that_a_shard_cannot_have(tmp_path: Path, name: str):
    write_tar(tmp_path / name, clip("one"))
    with pytest.raises(UsageError, match="rename it"):
        index_shards(tmp_path)


def test_nothing_to_index(tmp_path: Path):
    with pytest.raises(UsageError, match=r"contains no \.tar file"):
        index_shards(tmp_path)
    with pytest.raises(UsageError, match="expected a folder of tars"):
        index_shards(tmp_path / "nothing")


def test_packing_does_not_replace_them(tmp_path: Path):
    write_tar(tmp_path / "a.tar", clip("one"))
    index_shards(tmp_path)
    before = digests(tmp_path)
    with pytest.raises(UsageError, match="tars of another program"):
        pack(SetPlan({"a": 1}, [Job("a", (1,))], lambda _: []), tmp_path, overwrite=True)
    assert digests(tmp_path) == before


# --- equal keys, hidden and compressed tars -------------------------------------------------------


@examples(30)
@given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=2), min_size=1, max_size=3))
def test_what_is_indexed_has_no_faults(
    tmp_path_factory: pytest.TempPathFactory, tars: list[set[str]]
):
    """A set of tars in which keys may repeat: indexed and without faults, or refused."""
    folder = tmp_path_factory.mktemp("set")
    for number, keys in enumerate(tars):
        write_tar(folder / f"{number}.tar", [m for key in sorted(keys) for m in clip(key)[:1]])
    keys = [key for keys in tars for key in keys]
    if len(keys) == len(set(keys)):
        index_shards(folder)
        assert verify(folder).faults == ()
        return
    with pytest.raises(ShardError, match=r"sample key '\w' occurs in \d.tar and in \d.tar"):
        index_shards(folder)
    with pytest.raises(ShardError, match="incomplete"):
        ShardSet.open(folder)


def test_hidden_and_compressed_tars_are_passed_over_and_named(tmp_path: Path):
    write_tar(tmp_path / "a.tar", clip("one"))
    (tmp_path / "._a.tar").write_bytes(b"\0\5\x16\7")
    (tmp_path / "b.tar.gz").write_bytes(b"\x1f\x8b")
    result = CliRunner().invoke(app, ["shards", "index", str(tmp_path), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert [s.name for s in ShardSet.open(tmp_path).manifest.shards] == ["a.tar"]
    assert "note: ._a.tar: a hidden file" in result.output
    assert "note: b.tar.gz: compressed" in result.output
    (tmp_path / "a.tar").unlink()
    with pytest.raises(UsageError, match=r"contains no \.tar file \(\._a\.tar: a hidden file"):
        index_shards(tmp_path)


@pytest.mark.parametrize(
    ("compress", "message"),
    [
        (gzip.compress, "compressed with gzip.*gzip -dc"),
        (bz2.compress, "compressed with bzip2"),
        (lzma.compress, "compressed with xz"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    ],
)
def test_a_tar_of_another_format_is_told_what_it_is(
    tmp_path: Path, compress: Callable[[bytes], bytes], message: str
):
    path = write_tar(tmp_path / "a.tar", clip("one"))
    path.write_bytes(compress(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        index_shards(tmp_path)


def test_verify_says_what_to_do_with_equal_keys_of_an_earlier_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Earlier releases indexed them; repair refuses with the same advice, and index too."""
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name, clip("one"))
    with monkeypatch.context() as patch:
        patch.setattr(index_tars, "claim_keys", lambda *_: None)
        index_shards(tmp_path)
    for command in ("verify", "repair"):
        result = CliRunner().invoke(app, ["shards", command, str(tmp_path), "--workers", "1"])
        assert result.exit_code != 0
        assert "rename samples whose keys occur twice" in result.output, command
    with pytest.raises(ShardError, match=r"occurs in a\.tar and in b\.tar"):
        index_shards(tmp_path)

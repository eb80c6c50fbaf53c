"""Tars of any writer are walked as tarfile does, and what a shard must not hold is named."""

import io
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.packing.tar import BLOCK, Member, header_bytes, padded, scan_tar, tar_size
from stmtrain.errors import ShardError

FILES = {"a/0.jpg": b"x" * 700, "b.json": b"", "c" * 100: b"y" * BLOCK, "d.png": b"z"}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def written(kind: int, headers: dict[str, str] | None = None) -> bytes:
    """The files, in folders, as tarfile writes them; fractional times need PAX headers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5 if kind == tarfile.PAX_FORMAT else 1
            info.pax_headers = headers or {}
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def scan(path: Path, data: bytes, start: int = 0) -> list[Member]:
    path.write_bytes(data)
    with path.open("rb") as file:
        return list(scan_tar(file, "here", start))


@pytest.mark.parametrize("kind", FORMATS)
def test_members_are_where_tarfile_finds_them(tmp_path: Path, kind: str) -> None:
    data = written(FORMATS[kind])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [Member(m.name, m.offset_data, m.size) for m in tar if m.isfile()]
    found = scan(tmp_path / "a.tar", data)
    assert found == expected
    assert {m.name: data[m.offset : m.offset + m.size] for m in found} == FILES
    last = expected[-1].offset - BLOCK
    assert scan(tmp_path / "a.tar", data, last) == expected[-1:]


def test_a_long_name_is_read_from_both_fields(tmp_path: Path) -> None:
    name = f"{'p' * 90}/{'n' * 90}"
    data = header_bytes(name, 0) + bytes(2 * BLOCK)
    assert scan(tmp_path / "a.tar", data) == [Member(name, BLOCK, 0)]


@given(st.integers(0, 30_000))
def test_sizes_are_those_of_tarfile(size: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.size = size
        tar.addfile(info, io.BytesIO(bytes(size)))
        end = tar.offset
    assert end == BLOCK + padded(size)
    assert len(out.getvalue()) == tar_size(end)


def test_a_header_is_that_of_tarfile() -> None:
    info = tarfile.TarInfo.frombuf(header_bytes("a/b.jpg", 1234), "ascii", "strict")
    assert (info.name, info.size, info.mode) == ("a/b.jpg", 1234, 0o644)
    assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_tar_is_named_wherever_it_is_cut(tmp_path: Path, kind: str) -> None:
    data = written(FORMATS[kind])
    end = len(data.rstrip(b"\0")) // BLOCK * BLOCK + BLOCK  # of the last member
    for stop in {*range(0, end + 2 * BLOCK, 256), end + 2 * BLOCK - 1}:
        with pytest.raises(ShardError, match=r"^here: .*cut short"):
            scan(tmp_path / "a.tar", data[:stop])
    assert scan(tmp_path / "a.tar", data[: end + 2 * BLOCK])


def test_every_damaged_byte_of_a_header_is_found(tmp_path: Path) -> None:
    data = header_bytes("a", 0) + bytes(2 * BLOCK)
    for byte in range(BLOCK):
        damaged = bytearray(data)
        damaged[byte] ^= 4
        with pytest.raises(ShardError, match=r"^here: header at byte 0 is damaged"):
            scan(tmp_path / "a.tar", bytes(damaged))


def test_a_checksum_may_fill_its_field(tmp_path: Path) -> None:
    header = bytearray(header_bytes("a", 0))
    header[148:156] = f"{int(header[148:154], 8):08o}".encode()
    assert scan(tmp_path / "a.tar", bytes(header) + bytes(2 * BLOCK)) == [Member("a", BLOCK, 0)]


@pytest.mark.parametrize("gap", [0, BLOCK, (1 << 20) + 3])
def test_nothing_may_follow_the_end_mark(tmp_path: Path, gap: int) -> None:
    data = header_bytes("a", 0) + bytes(2 * BLOCK + gap) + b"x"
    at = rf"end mark is at byte {BLOCK}, .* at byte {len(data) - 1},"
    with pytest.raises(ShardError, match=at):
        scan(tmp_path / "a.tar", data)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.GNUTYPE_LONGNAME, "long name"),
        (tarfile.GNUTYPE_LONGLINK, "long link name"),
        (tarfile.GNUTYPE_SPARSE, "sparse file"),
        (b"7", "of type b'7'"),
    ],
)
def test_only_plain_files_are_let_through(tmp_path: Path, kind: bytes, words: str) -> None:
    info = tarfile.TarInfo("strange")
    info.type = kind
    data = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict") + bytes(2 * BLOCK)
    with pytest.raises(ShardError, match=rf"^here: header at byte 0: 'strange' is .*{words}"):
        scan(tmp_path / "a.tar", data)


def test_a_folder_has_no_bytes_and_a_size_is_octal(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a")
    info.type, info.size = tarfile.DIRTYPE, 1
    folder = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    with pytest.raises(ShardError, match="a folder cannot have 1 bytes"):
        scan(tmp_path / "a.tar", folder + bytes(3 * BLOCK))
    info = tarfile.TarInfo("a")
    info.size = 1 << 40  # GNU writes it in base 256
    large = info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")
    with pytest.raises(ShardError, match="not an octal number"):
        scan(tmp_path / "a.tar", large + bytes(2 * BLOCK))


@pytest.mark.parametrize("key", ["path", "size", "linkpath", "hdrcharset", "GNU.sparse.major"])
def test_an_extended_header_may_not_set_names_or_sizes(tmp_path: Path, key: str) -> None:
    data = extended(f"{len(key) + 6} {key}=0\n".encode())
    with pytest.raises(ShardError, match=rf"^here: extended header at byte 0 sets '{key}'"):
        scan(tmp_path / "a.tar", data)


@pytest.mark.parametrize(
    "text",
    [b"x mtime=1\n", b"12 mtime=1\n", b"10 mtime=1 ", b"0 \n", b"3 \n", b"\n", b"000011 mtime=1\n"],
)
def test_a_damaged_extended_header_is_named(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ShardError, match=r"^here: extended header at byte 0 is damaged"):
        scan(tmp_path / "a.tar", extended(text))


def test_an_extended_header_of_times_is_passed_over(tmp_path: Path) -> None:
    text = b"11 mtime=1\n" + b"4 =\n"
    found = scan(tmp_path / "a.tar", extended(text))
    assert found == [Member("a", 3 * BLOCK, 0)]


def test_a_large_extended_header_is_refused_unread(tmp_path: Path) -> None:
    longest = (1 << 16) - 6
    text = f"{1 << 16} {'k' * (longest - 2)}=\n".encode()
    assert len(text) == 1 << 16
    assert scan(tmp_path / "a.tar", extended(text))
    with pytest.raises(ShardError, match=re.escape("has 65537 bytes")):
        scan(tmp_path / "a.tar", extended(text + b"\n"))


def extended(text: bytes) -> bytes:
    """A tar of one empty file behind an extended header of these bytes."""
    info = tarfile.TarInfo("extended")
    info.type, info.size = tarfile.XHDTYPE, len(text)
    header = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    body = text + bytes(padded(len(text)) - len(text))
    return header + body + header_bytes("a", 0) + bytes(2 * BLOCK)

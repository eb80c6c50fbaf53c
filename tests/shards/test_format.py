"""The specification's listing and examples are true."""

import gc
import json
import re
import shutil
import tarfile
import zlib
from pathlib import Path

import pytest

from stmdata.checking.verify import verify
from stmdata.drawn.trees import draw_youtube_vos
from stmtrain.shards import sample as spec
from stmtrain.shards.reader import ShardSet
from tests.paths import ROOT
from tests.sets import pack_youtube_vos

PAGE = ROOT / "docs" / "shard-format.md"
TEXT = PAGE.read_text()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set of the listing: drawn videos, one to a shard."""
    root = tmp_path_factory.mktemp("format")
    tree = draw_youtube_vos(root / "tree", size=(96, 128))
    pack_youtube_vos(tree, "train", root / "set", workers=1, shard_bytes=1)
    return root / "set"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestWarning")
def test_the_examples_run(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("webdataset")
    monkeypatch.chdir(packed)
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), {})
    gc.collect()
    keys = list(ShardSet.open(packed).keys())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*keys, keys[0]]
    assert lines[-1] == f"{keys[0]} (96, 128, 3) objects [0 1 3]"


def test_the_listing(packed: Path):
    listed = re.findall(r"^(\S+\.(?:json|tar)) +\d+ ", TEXT, re.MULTILINE)
    listed += re.findall(r"^(\S+\.(?:json|tar)) +\d+$", TEXT, re.MULTILINE)
    assert set(listed) == {path.name for path in packed.iterdir()}
    with tarfile.open(packed / "youtube-vos-train-000000.tar") as tar:
        members = {info.name: info.size for info in tar}
    shown = re.findall(r"^-rw-r--r-- 0/0 +(\d+) 1970-01-01 00:00 (\S+)", TEXT, re.MULTILINE)
    assert shown
    for size, name in shown:
        assert members[name] == pytest.approx(int(size), rel=0.1)  # libraries may compress better
    assert [name for _, name in shown][-1] == list(members)[-1]


def test_the_crcs(packed: Path):
    """Each is that of the member's bytes; the one that is shown is the first of the listing."""
    sidecar = json.loads((packed / "youtube-vos-train-000000.json").read_bytes())
    (record,) = sidecar["index"]
    with tarfile.open(packed / "youtube-vos-train-000000.tar") as tar:
        data = {info.name.partition(".")[2]: tar.extractfile(info).read() for info in tar}
    assert record["crc32"] == {name: zlib.crc32(found) for name, found in data.items()}
    (shown,) = re.findall(r'`"crc32":\{"00000\.jpg":(\d+),…\}`', TEXT)
    if record["members"]["00000.jpg"] == [512, 3722]:  # else another JPEG library made it
        assert int(shown) == record["crc32"]["00000.jpg"]


def test_the_faults(packed: Path, tmp_path: Path):
    """The page shows what verify says of a byte in data, header, padding and end mark."""
    folder = Path(shutil.copytree(packed, tmp_path / "youtube-vos"))
    for number, suffix, place in ((0, "00003.jpg", 9), (0, "00005.png", -356), (1, "00000.jpg", 0)):
        path = folder / f"youtube-vos-train-00000{number}.tar"
        record = json.loads(path.with_suffix(".json").read_bytes())["index"][0]
        offset, size = record["members"][suffix]
        flip(path, offset + (place or size))
    flip(folder / "youtube-vos-train-000001.tar", 71000)
    for fault in verify(folder).faults:
        words = re.sub(r"\b[0-9a-f]{8}\b|\d+", "#", str(fault).replace(str(tmp_path), "shards"))
        assert words in re.sub(r"\b[0-9a-f]{8}\b|\d+", "#", TEXT)


def flip(path: Path, byte: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)


def test_the_grammar():
    for pattern in (spec._SAMPLE_KEY, spec._FRAME_NAME, spec._SHARD_NAME):
        assert f"`{pattern.pattern}`" in TEXT


def test_every_field_has_its_line(packed: Path):
    shard_set = ShardSet.open(packed)
    sidecar = json.loads((packed / "youtube-vos-train-000000.json").read_bytes())
    manifest = json.loads((packed / "manifest.json").read_bytes())
    record = json.loads(shard_set.record(0).to_json())
    names = {*sidecar, *sidecar["index"][0], *sidecar["statistics"], *record, *record["origin"]}
    names |= {*manifest, *manifest["shards"][0], *manifest["config"]}
    for name in names:
        assert f"`{name}`" in TEXT, name

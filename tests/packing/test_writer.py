"""One shard: a plain tar and a sidecar that describes it."""

import gc
import subprocess
import sys
import tarfile
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.packing.pack import pack
from stmdata.packing.writer import write_shard
from stmtrain.errors import ShardError
from stmtrain.shards.manifest import Sidecar
from stmtrain.shards.sample import Sample, Skipped
from tests.packing.numbered import PER_SHARD, PLAN, SHARDS, numbers, sample
from tests.paths import ROOT
from tests.profiles import examples


def test_a_shard_is_a_plain_tar(tmp_path):
    samples = [sample(n) for n in range(5)]
    sidecar = write_shard(tmp_path / "a.tar", samples, "hash")
    data = (tmp_path / "a.tar").read_bytes()
    assert (sidecar.bytes, sidecar.sha256) == (len(data), sha256(data).hexdigest())
    assert len(data) % tarfile.RECORDSIZE == 0
    assert Sidecar.from_json((tmp_path / "a.json").read_bytes(), "a") == sidecar
    expected = [
        (f"{s.record.sample_key}.{suffix}", content)
        for s in samples
        for suffix, content in s.members()
    ]
    with tarfile.open(tmp_path / "a.tar") as tar:
        infos = tar.getmembers()
        assert [(i.name, tar.extractfile(i).read()) for i in infos] == expected
    for info in infos:
        assert info.isreg()
        assert not info.pax_headers
        assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
        assert info.mode == 0o644
        assert data[info.offset + 257 : info.offset + 265] == b"ustar\x0000"
    system = subprocess.run(
        ["tar", "tf", str(tmp_path / "a.tar")], check=True, capture_output=True, text=True
    )
    assert system.stdout.split() == [name for name, _ in expected]
    assert system.stderr == ""


@given(st.lists(st.integers(0, 99), unique=True, max_size=6))
@examples(20)
def test_offsets_lead_to_the_bytes(tmp_path_factory, picks):
    path = tmp_path_factory.mktemp("shard") / "a.tar"
    sidecar = write_shard(path, [sample(n) for n in picks], "hash")
    data = path.read_bytes()
    assert numbers(sidecar) == [f"sample-{n:04d}" for n in picks]
    for record, number in zip(sidecar.index, picks, strict=True):
        members = {s: data[offset : offset + size] for s, (offset, size) in record.members.items()}
        assert list(members.items()) == sample(number).members()


def test_the_sidecar_counts(tmp_path):
    skip = Skipped("image-3", "no object")
    samples = [sample(1), skip, sample(2)]
    sidecar = write_shard(tmp_path / "a.tar", samples, "hash")
    both = [sample(1), sample(2)]
    assert sidecar.skipped == (skip,)
    assert sidecar.statistics == {
        "samples": 2,
        "frames": 5,
        "masks": 3,
        "objects": 4,
        "jpg_bytes": sum(len(b) for s in both for b in s.frames.values()),
        "png_bytes": sum(len(b) for s in both for b in s.masks.values()),
        "skipped": 1,
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestWarning")
def test_webdataset_reads_what_we_wrote(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    pack(PLAN, tmp_path)
    urls = sorted(map(str, tmp_path.glob("*.tar")))
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    wanted = [sample(n) for n in range(SHARDS * PER_SHARD) if n % 5 != 4]
    assert [s["__key__"] for s in found] == [s.record.sample_key for s in wanted]
    for theirs, ours in zip(found, wanted, strict=True):
        assert {k: v for k, v in theirs.items() if not k.startswith("_")} == dict(ours.members())
    gc.collect()  # it leaves its files open: let the warnings come here, where they are expected


def test_the_offline_side_never_loads_torch():
    code = "import sys, stmdata.packing.videos; print({'torch', 'webdataset'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([sample(1), sample(1)], "sample sample-0001: this key occurs twice"),
        ([replace(sample(1), masks={})], "its record and its masks differ in ['00000']"),
        ([replace(sample(1), frames={})], "its record and its frames differ in ['00000', '00001']"),
    ],
)
def test_bad_samples_leave_no_file(tmp_path, samples, message):
    with pytest.raises(ShardError) as caught:
        write_shard(tmp_path / "a.tar", samples, "hash")
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_a_plain_tar_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Sample, "members", lambda _self: [("x" * 200, b"")])
    with pytest.raises(ShardError, match="does not fit a plain tar"):
        write_shard(tmp_path / "a.tar", [sample(1)], "hash")
    assert not list(tmp_path.iterdir())

"""Our sets in plain webdataset pipelines: every sample once, masks by id, any order it can make."""

import gc
import io
import pickle
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch.utils.data
import webdataset

from stmdata.checking.index_tars import index_shards
from stmdata.packing.clips import ClipOptions
from stmtrain.adapters.webdataset import decode_sample, open_webdataset
from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.shards.reader import ShardSet
from tests.sets import pack_coco
from tests.shard_server import serving

pytestmark = pytest.mark.filterwarnings(  # webdataset leaves files open, DataLoader forks
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:.*fork:DeprecationWarning",
)


@pytest.fixture(autouse=True)
def _collect():
    """Let the warnings of a test's open files appear while they are ignored."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, coco_tree: Path) -> Path:
    """Clips of drawn images in eight shards."""
    out = tmp_path_factory.mktemp("many") / "clips"
    pack_coco(coco_tree, out, ClipOptions(size=64, clips_per_shard=1))
    assert len(list(out.glob("*.tar"))) >= 8
    return out


def shards_of(folder: Path) -> list[str]:
    return sorted(map(str, folder.glob("*.tar")))


def keys_of(pipeline) -> list[str]:
    return [sample["__key__"] for sample in pipeline]


def test_samples_are_those_of_the_set(packed: Path) -> None:
    shard_set = ShardSet.open(packed)
    samples = list(open_webdataset(packed).map(decode_sample))
    assert [sample["__key__"] for sample in samples] == list(shard_set.keys())
    for index, sample in enumerate(samples):
        expected = shard_set[index]
        assert sample["record"] == expected.record
        assert np.array_equal(sample["frames"], expected.frames)
        assert np.array_equal(sample["masks"], expected.masks)
        assert set(np.unique(sample["masks"])) - {0, 255} == set(expected.record.object_ids)


def test_decoding_is_a_stage_of_any_pipeline(packed: Path) -> None:
    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList(shards_of(packed)),
        webdataset.split_by_node,
        webdataset.split_by_worker,
        webdataset.tarfile_to_samples(),
        webdataset.map(decode_sample),
        webdataset.to_tuple("__key__", "masks"),
    )
    keys = list(ShardSet.open(packed).keys())
    assert [key for key, masks in pipeline if masks.dtype == np.uint8] == keys


def test_two_nodes_with_two_workers_see_every_sample_once(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("NUM_WORKERS", "2")
    for options in ({}, {"shardshuffle": 100}):
        seen: list[str] = []
        for node in range(2):
            for worker in range(2):
                monkeypatch.setenv("RANK", str(node))
                monkeypatch.setenv("WORKER", str(worker))
                share = keys_of(open_webdataset(many, **options))
                assert share
                seen += share
        assert Counter(seen) == Counter(ShardSet.open(many).keys())


def test_worker_processes_of_a_data_loader(many: Path) -> None:
    samples = open_webdataset(many).shuffle(4).map(decode_sample)
    loader = torch.utils.data.DataLoader(
        samples.to_tuple("__key__", "frames", "masks"),
        batch_size=None,
        num_workers=2,
        multiprocessing_context="fork",
    )
    seen = {key: masks for key, _, masks in loader}
    shard_set = ShardSet.open(many)
    assert sorted(seen) == sorted(shard_set.keys())
    for index, key in enumerate(shard_set.keys()):
        assert np.array_equal(np.asarray(seen[key]), shard_set[index].masks)


def test_shards_are_shuffled_by_seed_and_differently_in_each_epoch(many: Path) -> None:
    plain = keys_of(open_webdataset(many))
    assert plain == list(ShardSet.open(many).keys())
    pipeline = open_webdataset(many, shardshuffle=100, seed=3)
    epochs = [keys_of(pipeline) for _ in range(3)]
    assert len({tuple(keys) for keys in [plain, *epochs]}) == 4
    assert all(sorted(keys) == sorted(plain) for keys in epochs)
    again = open_webdataset(many, shardshuffle=100, seed=3)
    assert [keys_of(again) for _ in range(3)] == epochs
    assert keys_of(open_webdataset(many, shardshuffle=100, seed=4)) != epochs[0]


def rewrite(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write a tar again with other bytes in its members; None leaves a member out."""
    with tarfile.open(path) as tar:
        members = [(info.name, tar.extractfile(info).read()) for info in tar]
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            changed = change(name, data)
            if changed is not None:
                info = tarfile.TarInfo(name)
                info.size = len(changed)
                tar.addfile(info, io.BytesIO(changed))


def test_tars_that_were_made_elsewhere(packed: Path, tmp_path: Path) -> None:
    """No record in the tar, another program's JSON instead, and samples of other kinds."""
    for tar in packed.glob("*.tar"):
        shutil.copy(tar, tmp_path)
    first, second = sorted(tmp_path.glob("*.tar"))
    rewrite(first, lambda name, data: None if name.endswith(".json") else data)
    rewrite(second, lambda name, data: b'{"caption": 1}' if name.endswith(".json") else data)
    with tarfile.open(second, "a") as tar:
        tar.addfile(tarfile.TarInfo("readme.txt"))
    index_shards(tmp_path)
    pipeline = open_webdataset(tmp_path)
    samples = list(pickle.loads(pickle.dumps(pipeline)).map(decode_sample))
    shard_set = ShardSet.open(tmp_path)
    assert [s["record"] for s in samples] == [shard_set.record(i) for i in range(2)]
    assert [s["__key__"] for s in samples] == list(ShardSet.open(packed).keys())


def test_a_url(packed: Path) -> None:
    with serving(packed) as server:
        url = server.url.replace("//", "//me:hidden@") + "?signature=hidden"
        samples = list(open_webdataset(url).map(decode_sample))
    assert [sample["__key__"] for sample in samples] == list(ShardSet.open(packed).keys())


def test_a_shard_that_was_cut_names_the_member(packed: Path, tmp_path: Path) -> None:
    """webdataset takes a tar that ends between two members for a complete one."""
    folder = Path(shutil.copytree(packed, tmp_path / "set"))
    tar, other = sorted(folder.glob("*.tar"))
    pipeline = open_webdataset(folder).map(decode_sample)
    rewrite(tar, lambda name, data: None if name.endswith("00005.png") else data)
    with pytest.raises(ShardError, match=r"000000.tar, sample drawn-00: member 00005.png .*verify"):
        list(pipeline)
    rewrite(other, lambda name, data: b"no jpeg" if name.endswith("00002.jpg") else data)
    with pytest.raises(DataError, match=r"sample drawn-01, frame 00002: expected a JPEG"):
        list(webdataset.WebDataset([str(other)], shardshuffle=False).map(decode_sample))


def test_what_webdataset_cannot_read_is_refused(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ShardError, match="expected a folder of shards"):
        open_webdataset(tmp_path / "nothing")
    opened = ShardSet.open(packed)
    monkeypatch.setattr(ShardSet, "open", lambda *_: opened)
    with pytest.raises(UsageError, match=r"s3://b/a: webdataset cannot read s3://"):
        open_webdataset("s3://me:hidden@b/a")

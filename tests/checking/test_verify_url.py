"""Verifying a set behind a URL: the server's copy is read, and nothing is kept of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import cli
from stmdata.checking.verify import Fault, verify
from stmtrain.errors import RemoteError, ShardError, UsageError
from stmtrain.shards.cache import Cache
from stmtrain.shards.client import Retry
from stmtrain.shards.manifest import Sidecar
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.remote_store import RemoteStore
from tests.shard_server import Server, in_bucket, serving, used
from tests.soak.shard_faults import with_other_pixels

TARS = ("davis2017-train-000000.tar", "davis2017-train-000001.tar")


@pytest.fixture
def folder(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "set"))


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 10**7)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Retry(attempts=3, first=0.01, longest=0.02, timeout=5.0, piece=20_000)
    monkeypatch.setattr("stmtrain.shards.client.Retry", lambda: quick)


def stm(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def names(cache: Cache) -> set[str]:
    return {path.name for path in cache.folder.iterdir()}


def renamed(faults: tuple[Fault, ...], there: str, here: str) -> list[Fault]:
    """Return faults of one place as they would be of another."""
    return [Fault(f.shard, f.text.replace(there, here), f.sample, f.span) for f in faults]


def damage(folder: Path, kind: str) -> None:
    """Damage the second tar."""
    path = folder / TARS[1]
    data = bytearray(path.read_bytes())
    record = Sidecar.from_json(path.with_suffix(".json").read_bytes(), "s").index[0]
    offset, size = record.members["00003.jpg"]
    jpeg = slice(offset, offset + size)
    if kind == "pixels":
        data[jpeg] = with_other_pixels(bytes(data[jpeg]), np.random.default_rng(0))
    elif kind == "header":
        data[offset - 100] = 1
    elif kind == "cut":
        del data[offset + 10 :]
    elif kind == "longer":
        data += bytes(300) + b"more"
    path.write_bytes(data)


def test_a_whole_set_is_whole(server: Server, folder: Path, cache: Cache) -> None:
    here, there = verify(folder), verify(server.url, cache=cache)
    assert here == there
    assert there.faults == there.notes == ()


@pytest.mark.parametrize(
    ("kind", "answers"),
    [(kind, "ok") for kind in ("pixels", "header", "cut", "longer")]
    + [(kind, "no ranges") for kind in ("pixels", "header", "longer")],
)
def test_damage_on_the_server_is_named_as_in_the_folder(
    server: Server, folder: Path, cache: Cache, kind: str, answers: str
) -> None:
    damage(folder, kind)
    server.faults[TARS[1]] = [answers] * 99
    here, there = verify(folder).faults, verify(server.url, cache=cache).faults
    assert here
    assert renamed(there, server.url, str(folder)) == list(here)
    assert names(cache) == {"lock"}


def test_what_the_cache_holds_is_not_believed(server: Server, folder: Path, cache: Cache) -> None:
    shard_set = ShardSet.open(server.url, cache)
    shard_set.read(0), shard_set.read(1)
    kept = names(cache)
    damage(folder, "pixels")
    asked = len(server.asked)
    (fault,) = verify(server.url, cache=cache).faults
    assert fault.shard == TARS[1]
    assert {name for name, _ in server.asked[asked:]} == {path.name for path in folder.iterdir()}
    assert names(cache) == kept


def test_faults_that_pass_are_no_damage(server: Server, cache: Cache) -> None:
    for name in ("manifest.json", "config.json", TARS[0], TARS[0].replace("tar", "json")):
        server.faults[name] = ["503", "drop"]
    server.faults[TARS[1]] = ["cut", "ok", "cut without length", "429"]
    assert verify(server.url, cache=cache).faults == ()


def test_a_server_that_gives_up_says_nothing_of_the_set(server: Server, cache: Cache) -> None:
    server.faults[TARS[1]] = ["503"] * 99
    with pytest.raises(RemoteError, match=rf"{TARS[1]}: gave up after 3 attempts"):
        verify(server.url, cache=cache)
    assert names(cache) == {"lock"}


def test_a_config_that_the_server_refuses_is_a_note(server: Server, cache: Cache) -> None:
    """S3 refuses access to files that do not exist, if listing is not allowed."""
    server.faults["config.json"] = ["403"]
    result = verify(server.url, cache=cache)
    assert result.faults == ()
    assert result.notes[0].startswith(f"{server.url}/config.json: access refused (HTTP 403)")


def test_files_that_are_missing(server: Server, folder: Path, cache: Cache) -> None:
    (folder / "config.json").unlink()
    (folder / TARS[0]).unlink()
    (folder / TARS[1]).with_suffix(".json").unlink()
    result = verify(server.url, cache=cache)
    first, second = (fault.text for fault in result.faults)
    assert first.startswith(f"{server.url}/{TARS[0]}: not on the server")
    assert second.endswith('.json: the sidecar is missing; run "stm shards repair"')
    assert result.notes[0].startswith(f"{server.url}/config.json: missing")
    (folder / "manifest.json").unlink()
    with pytest.raises(ShardError, match=r"manifest\.json: not on the server"):
        verify(server.url, cache=cache)


def test_without_a_manifest_the_plan_says_what_should_be_there(
    server: Server, folder: Path, cache: Cache
) -> None:
    (folder / "manifest.json").unlink()
    (fault,) = verify(server.url, cache=cache).faults
    assert "manifest.json: not on the server" in fault.text


def test_the_cache_stays_in_its_limit(server: Server, folder: Path, tmp_path: Path) -> None:
    sizes = [(folder / name).stat().st_size for name in TARS]
    cache = Cache(tmp_path / "small", max(sizes) + 20_000)
    ShardSet.open(server.url, cache).read(0)
    gone, seen = names(cache), []
    verify(server.url, progress=lambda *_: seen.append(used(cache)), cache=cache)
    assert names(cache) < gone  # what training left there made room
    store, entry = RemoteStore(server.url, cache), ShardSet.open(folder).manifest.shards[0]
    with store.shard(entry) as file:
        assert file.seek(0, 2) == entry.bytes
        assert entry.bytes <= used(cache) <= cache.limit
    assert max(seen) <= cache.limit
    with pytest.raises(UsageError, match="raise --cache-size"):
        verify(server.url, cache=Cache(tmp_path / "tiny", max(sizes) - 1))


def test_s3(folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("boto3")
    with in_bucket(folder, monkeypatch) as url:
        assert verify(url, cache=cache).faults == ()
        for kind in ("pixels", "cut"):
            damage(folder, kind)
            client = boto3.client("s3")
            client.upload_file(str(folder / TARS[1]), "shards", f"sets/a/{TARS[1]}")
            client.close()
            faults = verify(url, cache=cache).faults
            assert renamed(faults, url, str(folder)) == list(verify(folder).faults)
        shown = stm("shards", "verify", url, "--cache", cache.folder, "--workers", 1)
    assert shown.exit_code == 1
    assert faults[0].text in shown.output
    assert "hidden" not in shown.output
    assert names(cache) == {"lock"}

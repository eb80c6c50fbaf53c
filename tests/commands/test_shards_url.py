"""``stm shards`` and ``stm preview`` on sets behind a URL."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.checking.test_verify_url import TARS, damage, stm
from tests.shard_server import QUICK, Server, serving


@pytest.fixture
def folder(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "set"))


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stmtrain.shards.client.Retry", lambda: QUICK)


def test_info(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")  # one file of the server needs no cache
    here, there = stm("shards", "info", folder), stm("shards", "info", server.url)
    assert there.exit_code == here.exit_code == 0
    title, edge, table = there.output.partition("┏")
    assert "".join(title.split()) == server.url
    assert edge + table == "".join(here.output.partition("┏")[1:])
    assert server.asked == [("manifest.json", 0)]


def test_verify(server: Server, folder: Path, tmp_path: Path) -> None:
    secret = server.url.replace("//", "//me:hidden@") + "?signature=hidden"
    check = partial(stm, "shards", "verify", secret, "--cache", tmp_path / "cache")
    assert f"{server.url}: 2 shards, 2 samples, 16 frames" in check("--workers", 2).output
    damage(folder, "pixels")
    found = check("--cache-size", 0.0002)
    assert found.exit_code == 1
    assert f"{server.url}/{TARS[1]}, sample drawn-01, member 00003.jpg, bytes " in found.output
    assert "1 shards to rebuild; repair the folder that it was uploaded from" in found.output
    assert "hidden" not in found.output
    refused = check("--cache-size", 0.00001)
    assert refused.exit_code == 2
    assert "raise --cache-size" in refused.stderr


@pytest.mark.parametrize(("size", "workers"), [(9.0, 5), (2.5, 2), (1.5, 1)])
def test_no_more_workers_than_the_cache_holds_shards(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    size: float, workers: int,
) -> None:  # fmt: skip
    asked, largest = [], max((folder / name).stat().st_size for name in TARS)
    monkeypatch.setattr(
        "stmdata.checking.verify.map_unordered",
        lambda f, items, n: asked.append(n) or map(f, items),
    )
    check = ("shards", "verify", server.url, "--workers", 5, "--cache", tmp_path / "cache")
    assert stm(*check, "--cache-size", size * largest / 1e9).exit_code == 0
    assert stm("shards", "verify", folder, "--workers", 5).exit_code == 0
    assert asked == [workers, 5]


def test_preview(server: Server, folder: Path, tmp_path: Path) -> None:
    show = partial(stm, "preview", "--limit", 1, "--seed", 1)
    here, there = show(folder), show(server.url, "--cache", tmp_path / "cache")
    assert there.exit_code == here.exit_code == 0
    pictures = [
        [line for line in shown.output.splitlines() if "..." in line] for shown in (here, there)
    ]
    assert pictures[0] == pictures[1] != []
    assert sum(server.count(name) > 0 for name in TARS) == 1
    saved = show(server.url, "--cache", tmp_path / "cache", "--save", tmp_path / "a.png")
    assert saved.exit_code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["index", "repair"])
def test_commands_that_write_need_a_folder(name: str) -> None:
    result = stm("shards", name, "s3://me:hidden@bucket/a?signature=hidden")
    assert result.exit_code == 2
    assert result.stderr == (
        f's3://bucket/a: "stm shards {name}" needs a folder, found a URL; copy the set to this '
        "machine, run the command there and upload what has changed (manifest.json last)\n"
    ).replace("s3://", "stm: s3://", 1)


@pytest.mark.parametrize("words", [("shards", "info"), ("shards", "verify"), ("preview",)])
def test_urls_of_other_kinds_are_refused(words: tuple[str, ...]) -> None:
    result = stm(*words, "ftp://me:hidden@h/a")
    assert result.exit_code == 2
    assert result.stderr.startswith("stm: ftp://h/a: expected a folder or a URL that starts with")
    assert result.stderr.count("\n") == 1

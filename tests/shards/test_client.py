"""Requests: which package a URL needs, what is asked for, waits between tries, clean messages."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from stmtrain.errors import RemoteError, UsageError
from stmtrain.shards.client import Remote, Retry
from tests.paths import ROOT
from tests.shard_server import QUICK


def test_what_a_backend_says_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://me:hidden@h/a?signature=hidden"
    remote = Remote(url, replace(QUICK, attempts=1))

    def fail(*_: object, **__: object) -> bytes:
        raise ValueError(f"cannot read '{url}'\nnor (https://h/b?signature=hidden) today")

    monkeypatch.setattr(remote._files, "cat_file", fail)
    with pytest.raises(RemoteError) as error:
        remote.read("x.json", bytes)
    assert "(ValueError: cannot read 'https://h/a' nor (https://h/b) today)" in str(error.value)
    assert "hidden" not in str(error.value)


def test_waits_grow_and_differ() -> None:
    retry = Retry(first=1.0, longest=5.0)
    for failures, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (50, 5.0)):
        waits = [retry.wait(failures) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
        assert len(set(waits)) > 5


@pytest.mark.parametrize(
    ("scheme", "url", "path"),
    [
        ("gs", "gs://bucket/sets/a", "bucket/sets/a/manifest.json"),
        ("hf", "hf://datasets/me/set/a", "datasets/me/set/a/manifest.json"),
        ("s3", "s3://bucket/sets/a", "bucket/sets/a/manifest.json"),
    ],
)
def test_urls_of_each_kind_name_the_right_file(scheme: str, url: str, path: str) -> None:
    fsspec = pytest.importorskip("fsspec")
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        pytest.skip(str(error))
    remote = object.__new__(Remote)
    remote.url = url
    assert remote.where("manifest.json") == f"{url}/manifest.json"
    assert kind._strip_protocol(remote.where("manifest.json")) == path


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(_scheme: str, **_: Any) -> None:
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(UsageError, match=r"gcsfs.*pip install 'stm-vos\[gcs\]'"):
        Remote("gs://bucket/a")


def test_folders_load_no_fsspec() -> None:
    code = (
        "import sys, stmtrain.shards.reader, stmtrain.shards.cache, stmtrain.shards.remote_store, "
        "stmtrain.streaming.prefetch; "
        "sys.exit('fsspec' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

"""Disk, cache and the trees of data sets."""

import errno
import shutil
from pathlib import Path

import pytest

from stmtrain.doctor import storage
from stmtrain.errors import UsageError


def test_the_disk_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    (finding,) = storage.disk(tmp_path)
    assert finding.numbers is not None
    assert min(finding.numbers.values()) > 0
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_bad(tmp_path: Path) -> None:
    (finding,) = storage.disk(tmp_path / "none")
    assert finding.state == "bad"
    assert "--disk" in finding.cure


def test_a_full_disk_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_folder: Path) -> tuple[float, float]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "_speeds", full)
    (finding,) = storage.disk(tmp_path)
    assert "free some room" in finding.cure


def test_a_slow_or_full_disk_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_SLOW", float("inf"))
    assert "local disk" in next(iter(storage.disk(tmp_path))).cure
    monkeypatch.setattr(storage, "_SLOW", 0.0)
    monkeypatch.setattr(storage, "_LITTLE", float("inf"))
    assert "free some room" in next(iter(storage.disk(tmp_path))).cure


def test_a_cache_that_cannot_be_used_is_bad(tmp_path: Path) -> None:
    assert storage.cache(tmp_path / "new").state == "good"
    assert not (tmp_path / "new").exists()
    file = tmp_path / "file"
    file.write_text("x")
    finding = storage.cache(file)
    assert finding.state == "bad"
    assert "--cache" in finding.cure


def test_a_tree_is_recognised_and_counted(davis_tree: Path, youtube_vos_tree: Path) -> None:
    checks = {finding.check: finding for finding in storage.tree(davis_tree, None)}
    assert checks["tree, davis2017 train"].numbers == {"videos": 2, "frames": 16, "masks": 16}
    assert all(finding.state == "good" for finding in checks.values() if "train" in finding.check)
    names = {finding.check for finding in storage.tree(youtube_vos_tree, "youtube-vos")}
    assert names == {"tree, youtube-vos train", "tree, youtube-vos valid"}
    (unclear,) = storage.tree(youtube_vos_tree, None)
    assert "youtube-vos-2018 or youtube-vos-2019" in unclear.found


def test_what_is_missing_of_a_named_data_set_is_said(davis_tree: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(davis_tree, tmp_path / "davis"))
    (root / "ImageSets" / "2017" / "val.txt").unlink()
    states = {finding.check: finding for finding in storage.tree(root, "davis2017")}
    assert states["tree, davis2017 train"].state == "good"
    assert states["tree, davis2017 val"].state == "note"  # another split is there
    assert "val.txt" in states["tree, davis2017 val"].found
    for finding in storage.tree(tmp_path, "davis2017"):
        assert finding.state == "bad"
    with pytest.raises(UsageError, match="davis2017"):
        list(storage.tree(root, "davis2018"))


def test_a_tree_of_another_kind_is_bad(tmp_path: Path) -> None:
    (finding,) = storage.tree(tmp_path, None)
    assert finding.state == "bad"
    assert "--layout" in finding.cure
    (finding,) = storage.tree(tmp_path / "none", None)
    assert "--layout" not in finding.cure

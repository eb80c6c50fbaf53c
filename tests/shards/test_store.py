"""A folder that is no shard set, or not complete: what it is, and advice that fits it."""

import shutil
from pathlib import Path

import pytest

from stmdata.checking.index_tars import index_shards
from stmdata.checking.repair import repair
from stmdata.checking.verify import verify
from stmtrain.errors import ShardError
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import MANIFEST_NAME


def refused(place: Path) -> str:
    with pytest.raises(ShardError) as caught:
        ShardSet.open(place)
    return str(caught.value)


def test_the_advice_fits_what_is_there(packed: Path, tmp_path: Path) -> None:
    assert "found nothing; check the path" in refused(tmp_path / "none")
    tar = next(packed.glob("*.tar"))
    assert "found a file; pass the folder that contains it" in refused(tar)
    shutil.copytree(packed, tmp_path / "above" / "set")
    assert refused(tmp_path / "above").endswith(f"pass {tmp_path / 'above' / 'set'}")
    shutil.copy(tar, tmp_path)
    assert "stm shards index" in refused(tmp_path)
    index_shards(tmp_path)  # as it says
    assert len(ShardSet.open(tmp_path))
    (tmp_path / "raw" / "JPEGImages").mkdir(parents=True)
    assert "stm pack-" in refused(tmp_path / "raw")


def test_a_missing_tar_leads_to_what_to_do_for_its_kind_of_set(
    packed: Path, tmp_path: Path
) -> None:
    """Nothing makes the tars of another program again."""
    tar = Path(shutil.copy(next(packed.glob("*.tar")), tmp_path))
    index_shards(tmp_path)
    tar.unlink()
    assert refused(tmp_path).count("stm shards verify") == 1
    assert verify(tmp_path).faults


def test_a_damaged_manifest_leads_to_the_command_that_restores_it(
    packed: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(packed, tmp_path / "set"))
    whole = (folder / MANIFEST_NAME).read_bytes()
    (folder / MANIFEST_NAME).write_bytes(whole.replace(b'"totals"', b'"total"'))
    assert "stm shards repair" in refused(folder)
    repair(folder, verify(folder), {})
    assert (folder / MANIFEST_NAME).read_bytes() == whole


def test_what_repair_cannot_restore_does_not_lead_to_repair(packed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(packed, tmp_path / "set"))
    (folder / MANIFEST_NAME).write_text("{")
    (folder / "config.json").write_text("{")
    with pytest.raises(ShardError, match="make it again in another folder") as caught:
        verify(folder)
    assert "repair" not in str(caught.value).rpartition(":")[2].replace("to repair the set", "")

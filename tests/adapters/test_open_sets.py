"""Every process opens sets for itself."""

import os
import pickle
from pathlib import Path

import pytest

from stmtrain.adapters.open_sets import OpenSets


def test_a_forked_or_spawned_process_opens_them_again(
    clips: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = OpenSets([clips, str(packed)])
    here = sets.get()
    assert sets.get() is here
    copy = pickle.loads(pickle.dumps(sets))
    assert [s.manifest_sha256 for s in copy.get()] == [s.manifest_sha256 for s in here]
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    there = sets.get()
    assert all(a is not b for a, b in zip(here, there, strict=True))
    assert sets.get() is there


def test_one_location_needs_no_list(clips: Path) -> None:
    assert len(OpenSets(str(clips)).get()) == len(OpenSets(clips).get()) == 1

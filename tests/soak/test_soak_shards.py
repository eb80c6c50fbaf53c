"""The soak runs of ``tests.soak.soak_shards``, short: random damage, and SIGKILLs at random."""

import gc

import pytest

from tests.soak.kill_rounds import kill_rounds
from tests.soak.soak_shards import fuzz

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def test_every_fault_is_found_or_harmless_and_repaired():
    pytest.importorskip("webdataset")
    results, fine = fuzz(300, seed=1, repair_every=5)
    gc.collect()  # webdataset leaves its files open: let the warnings come here
    assert fine, results
    assert results["repair"]["identical"] > 20


def test_no_kill_leaves_what_looks_complete_and_is_not():
    results, fine = kill_rounds(30, seed=1)
    assert fine, results
    assert results["kills"] >= 30

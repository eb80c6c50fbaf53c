"""Short soak runs of ``tests.soak.soak_shards``: random damage, and random SIGKILLs."""

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
    gc.collect()  # webdataset leaves files open: raise the warnings here
    assert fine, results
    assert results["repair"]["identical"] > 20


def test_no_kill_leaves_a_set_that_only_looks_complete():
    results, fine = kill_rounds(30, seed=1)
    assert fine, results
    assert results["kills"] >= 30

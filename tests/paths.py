"""Folders that tests read: the repository, its golden values, and real data where it exists."""

from pathlib import Path

import pytest

__all__ = ["GOLDEN", "REAL", "ROOT", "real_data"]

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
REAL = ROOT.parent / "shared" / "data"

real_data = pytest.mark.skipif(not REAL.exists(), reason=f"needs the real data in {REAL}")

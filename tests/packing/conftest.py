"""The undisturbed set that interrupted ones are compared with."""

import pytest

from stmdata.packing.pack import pack
from tests.packing.numbered import PLAN, contents


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> dict[str, str]:
    """The files of an undisturbed run with one worker."""
    out = tmp_path_factory.mktemp("reference")
    pack(PLAN, out)
    return contents(out)

"""Numbers that earlier revisions gave for fixed seeds, kept in a room's ``known.json``."""

import json
import os
from pathlib import Path

import numpy as np

__all__ = ["agrees"]


def agrees(file: Path, name: str, numbers: object, tolerance: float) -> bool:
    """Compare numbers with the known ones of this name.

    A difference means that the same inputs and seed no longer give the same result. If that is
    wanted, remove the file and run the room's tests once with ``STM_WRITE_KNOWN=1``.
    """
    known = json.loads(file.read_text()) if file.exists() else {}
    found = np.round(np.asarray(numbers, float), 3)
    if os.environ.get("STM_WRITE_KNOWN"):
        file.write_text(json.dumps(known | {name: found.tolist()}) + "\n")
        return True
    wanted = np.array(known[name])
    return found.shape == wanted.shape and bool(np.allclose(found, wanted, rtol=0, atol=tolerance))

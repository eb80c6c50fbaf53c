"""When objects have changed their ids from one mask to the next, and when they have only moved."""

import numpy as np
import pytest

from stmdata.auditing.mask_checks import MaskChecks
from stmdata.auditing.places import Places

SIZE = (30, 120)


def row(*spans):
    """Draw (id, first column, column after the last) over the height of the frame."""
    mask = np.zeros(SIZE, np.uint8)
    for object_id, first, end in spans:
        mask[:, first:end] = object_id
    return mask


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (((1, 0, 30), (2, 60, 90)), ((2, 2, 32), (1, 58, 88)), "objects 1 and 2 change places"),
        (((1, 0, 30), (2, 60, 90)), ((3, 2, 32), (2, 58, 88)), "object 1 becomes object 3"),
        # One takes the place of the other, which has gone elsewhere.
        (((1, 0, 30), (2, 60, 90)), ((1, 60, 90), (2, 90, 120)), None),
        (((1, 0, 30), (2, 60, 90)), ((1, 60, 90),), None),
        # Each covers as much of the other's place as of its own.
        (((1, 0, 60), (2, 60, 120)), ((2, 0, 30), (1, 30, 90), (2, 90, 120)), None),
        # One leaves, and another one enters far away.
        (((1, 0, 30),), ((2, 80, 110),), None),
        (((1, 0, 30), (2, 40, 70)), ((1, 0, 30), (2, 40, 70), (3, 80, 110)), None),
    ],
)
def test_ids_change_where_masks_say_so(before, after, found):
    places = Places()
    checks = MaskChecks(places, binary=False, own=False)
    checks.add("0", row(*before), SIZE)
    checks.add("1", row(*after), SIZE)
    checks.finish((), late_expected=False)
    switches = [f for f in places.findings("video") if f.kind == "switch"]
    assert [f.what for f in switches] == ([found] if found else [])
    assert all(f.frames == ("1",) for f in switches)


@pytest.mark.parametrize(("again", "found"), [((), []), ((1,), ["object 1 becomes object 2"])])
def test_masks_that_show_only_entering_objects_change_no_ids(again, found):
    places = Places()
    checks = MaskChecks(places, binary=False, own=False)
    for frame, object_id in enumerate((*again, 1, 2)):  # each near the place of the one before
        checks.add(str(frame), row((object_id, frame, frame + 30)), SIZE)
    checks.finish((), late_expected=True)
    assert [f.what for f in places.findings("video") if f.kind == "switch"] == found

"""Object ids to slots: in a batch the objects of a clip are 1, 2, ..., whatever the data set says.

0 is the background and 255 void, as in the data; objects that the clip leaves out are background.
Torch-free.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_OBJECT_ID", "VOID", "ids_to_slots", "slot_table"]

VOID = 255
"""The value of a mask where nothing is known: neither background nor an object."""

MAX_OBJECT_ID = 254

_FEW = 5  # ids to close up up to which passes over the image are faster than a table


def ids_to_slots(masks: NDArray[np.uint8], object_ids: tuple[int, ...]) -> None:
    """Translate (T, H, W) label maps in place: ``object_ids[i]`` becomes ``i + 1``.

    Mostly the ids that occur are their own slots, and nothing is done. Else an id that is missing
    among ``object_ids`` (ascending) becomes background and those above it move down by one: four
    passes of the processor's vector units, 16 µs in 384x384 pixels, where to look every pixel up
    takes 100 µs (``bytes.translate``) to 500 µs (NumPy's indexing).
    """
    largest = int(masks.max())
    gone = [value for value in range(1, largest + 1) if value not in object_ids]
    if not gone:
        return
    if len(gone) > _FEW:  # as with void, the largest of all
        table = slot_table(object_ids)
        masks[:] = np.frombuffer(masks.tobytes().translate(table), np.uint8).reshape(masks.shape)
        return
    flags = np.empty(masks.shape[1:], np.bool_)  # used again: fresh memory costs more than a pass
    ones = flags.view(np.uint8)
    for mask in masks:
        for value in reversed(gone):
            np.not_equal(mask, value, out=flags)
            np.multiply(mask, ones, out=mask)
            np.greater(mask, value, out=flags)
            np.subtract(mask, ones, out=mask)


def slot_table(object_ids: tuple[int, ...]) -> bytes:
    """Return, for each value 0..255 of a mask, its slot: 1.. in order, void 255, others 0.

    Example:
        >>> list(slot_table((7, 4))[:9]), slot_table((7, 4))[255]
        ([0, 0, 0, 0, 2, 0, 0, 1, 0], 255)
    """
    table = bytearray(256)
    for slot, object_id in enumerate(object_ids, start=1):
        table[object_id] = slot
    table[VOID] = VOID
    return bytes(table)

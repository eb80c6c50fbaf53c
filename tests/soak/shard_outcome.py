"""What damage to a shard set led to, and how exactly it was reported.

The outcome states where a fault was found: when the set is opened, when its samples are read, or
only by ``stm shards verify``; or that it is harmless: same samples, same order, same pixels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from stmdata.checking.verify import Fault, verify
from stmtrain.errors import StmError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.shards.reader import ShardSet

__all__ = ["Outcome", "how_named", "observe", "try_fault"]


@dataclass(frozen=True)
class Outcome:
    """What one fault led to.

    Attributes:
        where: ``open``, ``read``, ``verify``, ``harmless``, ``SILENT``, ``MISSED`` (the reader
            failed, verify did not) or ``CRASH`` (no proper error); the last three are bugs.
        wrong_pixels: Reading gave other samples without an error; only verify finds it.
        detail: The message.
        faults: The faults that verify found.
    """

    where: str
    wrong_pixels: bool
    detail: str
    faults: tuple[Fault, ...] = ()


def observe(folder: Path) -> list[tuple[str, str]]:
    """Read and decode a complete set; return key and digest (record, pixels) of each sample."""
    shard_set = ShardSet.open(folder)
    seen = []
    for index in range(len(shard_set)):
        sample = shard_set.read(index)
        digest = hashlib.sha256(sample.record.to_json())
        for name, data in sample.frames.items():
            digest.update(decode_frame(data, name).tobytes())
        for name, data in sample.masks.items():
            digest.update(decode_mask(data, name).tobytes())
        seen.append((sample.record.sample_key, digest.hexdigest()))
    return seen


def try_fault(folder: Path, reference: list[tuple[str, str]]) -> Outcome:
    """Open, read and verify a damaged set; compare with what it should hold."""
    where, seen, detail = "", None, ""
    try:
        ShardSet.open(folder)
        where = "read"
        seen = observe(folder)
    except StmError as error:
        where, detail = where or "open", str(error)
    except Exception as error:  # noqa: BLE001  (any other error is a bug, which this looks for)
        return Outcome("CRASH", False, repr(error))
    try:
        faults = verify(folder).faults
    except StmError as error:
        faults = (Fault("", str(error)),)
    except Exception as error:  # noqa: BLE001
        return Outcome("CRASH", False, repr(error))
    if seen is None:
        return Outcome(where if faults else "MISSED", False, detail, faults)
    wrong = seen != reference
    if faults:
        return Outcome("verify", wrong, faults[0].text, faults)
    return Outcome("SILENT" if wrong else "harmless", wrong, "")


def how_named(faults: Sequence[Fault], shard: str, expected: bytes, broken: bytes | None) -> str:
    """Return how exactly verify names the first byte of a tar that has changed.

    Args:
        faults: The faults that verify found.
        shard: The tar's name.
        expected: Its correct content.
        broken: Its content; None if it does not exist.

    Returns:
        ``sample and byte``, ``byte`` (of the end mark, which belongs to no sample) or ``file``.
    """
    pairs = enumerate(zip_longest(expected, broken or b""))
    first = next((at for at, (wanted, found) in pairs if wanted != found), -1)
    ours = [f for f in faults if f.shard == shard and f.span and f.span[0] <= first < f.span[1]]
    if any(fault.sample for fault in ours):
        return "sample and byte"
    return "byte" if ours else "file"

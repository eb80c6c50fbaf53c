"""What is audited: the videos of trees and of shard sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stmdata.auditing.finding import Finding
from stmtrain.datasets.listing import Entry
from stmtrain.datasets.tree import AUTO, open_dataset
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import CONFIG_NAME, MANIFEST_NAME
from stmtrain.shards.urls import name_of, parse_location

if TYPE_CHECKING:
    from stmtrain.shards.cache import Cache


@dataclass(frozen=True)
class SetInfo:
    """What is known of a set.

    Attributes:
        name: Folder or URL.
        shards: Folder or URL of a shard set; None for a tree.
        late_expected: Whether objects may appear after the first mask.
        own: Whether masks of 0 and 255 show one object.
    """

    name: str
    shards: Path | str | None
    late_expected: bool = True
    own: bool = False


@dataclass(frozen=True)
class AuditInput:
    """A set to audit.

    Attributes:
        info: What is known of it.
        videos: Its videos, or the indices of its samples.
        findings: What was found when it was listed.
        note: How a tree was recognised; empty if its layout was named.
    """

    info: SetInfo
    videos: Sequence[Entry | int]
    findings: tuple[Finding, ...] = ()
    note: str = ""


def open_input(
    text: str, layout: str = AUTO, split: str | None = None, cache: "Cache | None" = None
) -> AuditInput:
    """Open a tree or a shard set.

    Args:
        text: Folder, or URL of a shard set.
        layout: Name of the tree's data set, or ``auto``.
        split: The split of a tree; None for all.
        cache: Its folder stores shards from a URL.

    Raises:
        UsageError: There is no such layout or split, or several layouts fit.
        DataError: Neither a tree that is known nor a complete shard set.
    """
    location = parse_location(text)
    if isinstance(location, str) or _is_shard_set(location):
        shards = ShardSet.open(location, cache)
        return AuditInput(SetInfo(name_of(location), location), range(len(shards)))
    tree = open_dataset(location, layout)
    dataset, listing = tree.dataset, tree.listing(split)
    late_expected = dataset.protocol is None or dataset.protocol.late_objects
    info = SetInfo(name_of(location), None, late_expected, dataset.own)
    findings = [
        Finding.of("left-out", f"{info.name}, video {name}", why)
        for name, why in listing.left_out.items()
    ]
    return AuditInput(info, listing.entries, tuple(findings), tree.why)


def _is_shard_set(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (MANIFEST_NAME, CONFIG_NAME))

"""Audit trees and shard sets: every video by itself, then all of them for duplicates."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmdata.auditing.duplicates import find_pairs
from stmdata.auditing.finding import KINDS, Finding, Severity
from stmdata.auditing.inputs import AuditInput, SetInfo
from stmdata.auditing.video import VideoAudit, audit_video
from stmtrain.datasets.listing import Entry
from stmtrain.datasets.packed import ShardVideo
from stmtrain.errors import DataError
from stmtrain.processes import Progress, map_unordered
from stmtrain.shards.reader import ShardSet

if TYPE_CHECKING:
    from stmtrain.shards.cache import Cache

_HELD_OUT = ("val", "test")
"""How the names of splits begin on which nothing is trained."""


@dataclass(frozen=True)
class Audit:
    """The result for all inputs.

    Attributes:
        findings: The worst first, else in the order of the videos.
        inputs: Number of sets.
        videos: Videos that were checked.
        frames: Frames that were read.
        masks: Masks that were read.
    """

    findings: tuple[Finding, ...]
    inputs: int
    videos: int
    frames: int
    masks: int

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind, in the order of their table."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def at_least(self, severity: Severity) -> int:
        """Return the number of findings that are at least so bad."""
        return sum(finding.severity >= severity for finding in self.findings)

    def summary(self) -> str:
        """Return one line on how much was checked and what was found."""
        checked = f"{self.videos} videos, {self.frames} frames, {self.masks} masks"
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        return f"{checked}: {counts or 'nothing found'}"

    def to_mapping(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "videos": self.videos,
            "frames": self.frames,
            "masks": self.masks,
            "counts": self.counts(),
            "findings": [finding.to_mapping() for finding in self.findings],
        }


def audit(
    inputs: Sequence[AuditInput],
    *,
    workers: int = 1,
    cache: "Cache | None" = None,
    progress: Progress | None = None,
) -> Audit:
    """Check all videos of some trees and shard sets.

    Args:
        inputs: The sets.
        workers: Number of processes.
        cache: Its folder stores shards from URLs.
        progress: Called with the number of videos that were checked, their total, and how many
            findings there are so far.
    """
    tasks = [_Task(one.info, video) for one in inputs for video in one.videos]
    results: dict[int, VideoAudit] = {}
    findings = [finding for one in inputs for finding in one.findings]
    count = len(findings)
    for place, result in map_unordered(CheckVideos(cache), enumerate(tasks), workers):
        results[place] = result
        count += len(result.findings)
        if progress is not None:
            progress(len(results), len(tasks), f"{count} findings" if count else "")
    audits = [results[place] for place in range(len(tasks))]
    findings += [finding for one in audits for finding in one.findings]
    findings += _shared_frames(audits)
    return Audit(
        tuple(sorted(findings, key=lambda finding: -finding.severity)),
        len(inputs),
        len(audits),
        sum(one.frames for one in audits),
        sum(one.masks for one in audits),
    )


@dataclass(frozen=True)
class _Task:
    info: SetInfo
    video: Entry | int


@dataclass(frozen=True)
class CheckVideos:
    """Checks videos one by one; picklable, so that processes can share the work."""

    cache: "Cache | None" = None

    @cached_property
    def _sets(self) -> dict[Path | str, ShardSet]:
        return {}

    def __call__(self, numbered: tuple[int, _Task]) -> tuple[int, VideoAudit]:
        """Check the video of a task; the task's number comes back with the result."""
        number, task = numbered
        info, entry = task.info, task.video
        if not isinstance(entry, Entry):
            return number, self._sample(info, entry)
        where = f"{info.name}, video {entry.name}"
        try:
            video = entry.open()
        except DataError as error:
            finding = Finding.of("incomplete", where, str(error))
            return number, VideoAudit.unread(where, entry.split, finding)
        where = f"{info.name}, video {video.name}"  # a file may name it otherwise than its folder
        return number, audit_video(
            video, where, entry.split, late_expected=info.late_expected, own=info.own
        )

    def _sample(self, info: SetInfo, index: int) -> VideoAudit:
        assert info.shards is not None
        if info.shards not in self._sets:
            self._sets[info.shards] = ShardSet.open(info.shards, self.cache)
        shards = self._sets[info.shards]
        try:
            record = shards.record(index)
        except DataError as error:
            where = f"{info.name}, sample {index}"
            return VideoAudit.unread(where, "", Finding.of("damaged", where, str(error)))
        video = ShardVideo(info.shards, index, record, shards)
        split, late_expected = str(record.origin.get("split", "")), video.protocol.late_objects
        where = f"{info.name}, video {video.name}"
        return audit_video(video, where, split, late_expected=late_expected, own=False)


def _shared_frames(audits: Sequence[VideoAudit]) -> Iterator[Finding]:
    """Find videos that show the same frames."""
    for pair in find_pairs([one.thumbs for one in audits], [one.source for one in audits]):
        first, second = audits[pair.first], audits[pair.second]
        known = [one.split.startswith(_HELD_OUT) for one in (first, second) if one.split]
        what = (
            f"{pair.frames[0]} of {len(first.thumbs)} compared frames are also in {second.where} "
            f"({pair.frames[1]} of {len(second.thumbs)})"
        )
        yield Finding.of("leak" if {*known} == {True, False} else "duplicate", first.where, what)

"""Collects where in a video each fault is, so that a report has one line for all its frames."""

from collections.abc import Iterable

from stmdata.auditing.finding import Finding, Severity

_Fault = tuple[str, str, Severity | None]


class Places:
    """The faults of one video, with the frames where they are."""

    def __init__(self) -> None:
        self._frames: dict[_Fault, list[str]] = {}

    def add(
        self,
        kind: str,
        what: str,
        frames: Iterable[str] = (),
        severity: Severity | None = None,
    ) -> None:
        """Add a fault.

        Args:
            kind: A name in :data:`~stmdata.auditing.finding.KINDS`.
            what: What it is, in words that are the same in all its frames.
            frames: Where it is; none if it is not in single frames.
            severity: If it differs from that of its kind.
        """
        self._frames.setdefault((kind, what, severity), []).extend(frames)

    def findings(self, where: str) -> tuple[Finding, ...]:
        """Return one finding for each fault, the worst first."""
        found = [
            Finding.of(kind, where, what, severity, frames)
            for (kind, what, severity), frames in self._frames.items()
        ]
        return tuple(sorted(found, key=lambda finding: -finding.severity))

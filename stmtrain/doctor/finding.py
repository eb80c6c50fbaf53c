"""One thing that was looked at: what was found, whether it is right, and what can be done."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: What was looked at.
        found: What is there.
        state: ``good``; ``note``, a limit that one can live with; ``bad``, what keeps commands from
            working.
        cure: What can be done; empty if nothing need be.
        numbers: The same for programs, as JSON values.
    """

    check: str
    found: str
    state: Literal["good", "note", "bad"] = "good"
    cure: str = ""
    numbers: dict[str, Any] | None = None

    def text(self) -> str:
        """Return the finding as text, its cure in a line of its own."""
        mark = {"good": "ok  ", "note": "note", "bad": "BAD "}[self.state]
        text = f"{mark}  {self.check}: {self.found}"
        return f"{text}\n      cure: {self.cure}" if self.cure else text

    def to_mapping(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)

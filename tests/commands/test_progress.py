"""Progress: a bar on a terminal, elsewhere lines that are neither too many nor broken."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.commands import progress
from stmtrain.commands.console import SafeConsole


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def console() -> SafeConsole:
    return SafeConsole(file=io.StringIO(), width=20, force_terminal=False)


def lines(console: SafeConsole) -> list[str]:
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_line_has_the_time_left_and_is_never_broken(clock: Clock, console: SafeConsole) -> None:
    with progress.progress_bar(console, "a long title", "clips") as show:
        show(50, 100, "kept from an earlier run")
        clock.now += 30
        show(60, 100, "a note that is longer than the line")
        clock.now += 120
        show(100, 100, "")
    assert lines(console) == [
        "a long title: 50/100 clips  kept from an earlier run",
        # ten in thirty seconds, forty to go: what was there before says nothing about the speed
        "a long title: 60/100 clips, 0:02:00 left  a note that is longer than the line",
        "a long title: 100/100 clips",
    ]


def test_what_goes_on_at_the_end_is_shown_too(clock: Clock, console: SafeConsole) -> None:
    with progress.progress_bar(console, "train", "steps") as show:
        show(1, 2, "loss 1")
        show(2, 2, "loss 0.5")
        show(2, 2, "validating, video 1 of 2")
        clock.now += 60
        show(2, 2, "validating, video 2 of 2")
    assert lines(console) == [
        "train: 1/2 steps  loss 1",
        "train: 2/2 steps  loss 0.5",
        "train: 2/2 steps  validating, video 2 of 2",
    ]


def test_an_unknown_total_has_no_time_left(console: SafeConsole, clock: Clock) -> None:
    with progress.progress_bar(console, "track", "frames") as show:
        show(1, 0, "")
        clock.now += 99
        show(50, 0, "")
    assert lines(console) == ["track: 1 frames", "track: 50 frames"]


@given(seconds=st.integers(1, 100_000), pause=st.floats(0.01, 100))
def test_lines_become_rarer(seconds: int, pause: float) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "time", clock)
        console = SafeConsole(file=io.StringIO(), force_terminal=False)
        steps = min(2000, max(1, round(seconds / pause)))
        with progress.progress_bar(console, "work", "steps") as show:
            for step in range(1, steps + 1):
                clock.now += seconds / steps
                show(step, steps, "")
    count = len(lines(console))
    assert count <= 3 + min(seconds / 10, 20 + 20 * 9)  # log(100000 / 200) / log(1.05) is 127
    assert lines(console)[-1].startswith(f"work: {steps}/{steps} steps")


def test_the_note_of_a_bar_has_a_line_of_its_own() -> None:
    console = SafeConsole(
        file=io.StringIO(), width=80, force_terminal=True, color_system=None, legacy_windows=False
    )
    with progress.progress_bar(console, "train main", "steps") as show:
        show(3, 12, "loss 1.178  J 12  1.0 clips/s  waiting for data 1.1 %")
    screen = console.file.getvalue()  # type: ignore[attr-defined]
    shown = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).strip() for line in screen.splitlines()]
    assert "loss 1.178  J 12  1.0 clips/s  waiting for data 1.1 %" in shown
    assert any(line.startswith("train main") and "3/12" in line for line in shown)

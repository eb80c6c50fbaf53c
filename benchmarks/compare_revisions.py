"""Two revisions of this project side by side: do they compute the same, and how fast?

    python -m benchmarks.compare_revisions A B [--data ../shared/data]

A and B are anything that git can name, or the path of a working tree. Both run the same jobs with
this interpreter: packing, 50 steps of batches, training, resuming A's checkpoint, segmenting,
scoring. A table lists what agrees to the bit; any difference is named and ends the command with
exit code 1. Speeds are measured in turns, by processor time. Without --data all data is drawn; with
it, real data is compared as well (folders coco, ecssd, davis2016, davis2016_*_results).
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import report
from benchmarks.revisions import jobs
from benchmarks.revisions.inputs import Inputs, drawn_inputs, real_inputs, with_results
from benchmarks.revisions.jobs import RECIPES, Parts
from benchmarks.revisions.revision import Revision, checked_out

NAMED = 10  # differing parts of a check that are listed
FAILURE = "failure"  # the part that a job has which did not end


def main() -> None:
    """Compare, print, write ``results/compare_revisions.json``, and exit 1 on a difference."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("a", help="the revision before")
    parser.add_argument("b", help="the revision after")
    parser.add_argument("--data", type=Path, help="folder with real data")
    parser.add_argument("--work", type=Path, help="new folder in which to keep all that was made")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each speed; 0: no speeds")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        a, b = (
            stack.enter_context(checked_out(name, work.resolve() / f"tree-{side}"))
            for side, name in (("a", arguments.a), ("b", arguments.b))
        )
        comparison = Comparison(a, b, work.resolve())
        run(comparison, arguments.data, arguments.rounds)
    comparison.print()
    print(report("compare_revisions", comparison.results()))
    sys.exit(1 if comparison.differences() else 0)


class Comparison:
    """What two revisions gave for the same jobs.

    Attributes:
        revisions: A and B.
        work: Folder of everything that they write.
        checks: Per check, the parts of A and of B.
        speeds: Per job, the speeds of A and of B, in turns.
    """

    def __init__(self, a: Revision, b: Revision, work: Path) -> None:
        self.revisions, self.work = (a, b), work
        self.checks: dict[str, tuple[Parts, Parts]] = {}
        self.speeds: dict[str, list[tuple[float, float]]] = {}
        self._console = Console(stderr=True)

    def check(self, name: str, job: Callable[[Revision, Path], Parts]) -> Path:
        """Run a job with both revisions; return the folder that A has written to."""
        self._console.print(name, highlight=False)
        folders = self.work / "a" / name, self.work / "b" / name
        expected = job(self.revisions[0], folders[0])
        self.record(name, expected, lambda: job(self.revisions[1], folders[1]))
        return folders[0]

    def record(self, name: str, expected: Parts, job: Callable[[], Parts]) -> None:
        """Compare what A gave with what B gives; B's failure is a difference."""
        try:
            self.checks[name] = expected, job()
        except (RuntimeError, OSError) as error:
            self.checks[name] = expected, {FAILURE: str(error)}

    def measure(self, name: str, job: Callable[[Revision, Path], float], rounds: int) -> None:
        """Measure the speed of a job in turns."""
        for turn in range(rounds):
            self._console.print(f"speed: {name}, turn {turn + 1} of {rounds}", highlight=False)
            order = (0, 1) if turn % 2 == 0 else (1, 0)  # neither always runs second
            found = {i: job(self.revisions[i], self.work / f"speed-{turn}") for i in order}
            self.speeds.setdefault(name, []).append((found[0], found[1]))

    def differences(self) -> dict[str, dict[str, tuple[str | None, str | None]]]:
        """Return, per check that failed, the parts that differ: A's value and B's."""
        found = {}
        for name, (a, b) in self.checks.items():
            parts = [part for part in {**a, **b} if a.get(part) != b.get(part)]
            if FAILURE in b:
                parts = [FAILURE]
            if parts:
                found[name] = {part: (a.get(part), b.get(part)) for part in parts}
        return found

    def results(self) -> dict[str, Any]:
        """Return everything as plain values."""
        differences = self.differences()
        return {
            "a": self.revisions[0].commit,
            "b": self.revisions[1].commit,
            "checks": {
                name: {
                    "parts": len(a),
                    "differ": len(differences.get(name, ())),
                    "first": dict(list(differences.get(name, {}).items())[:NAMED]),
                }
                for name, (a, _) in self.checks.items()
            },
            "speeds": {name: _speed(turns) for name, turns in self.speeds.items()},
        }

    def print(self) -> None:
        """Print a table of checks, a table of speeds, and what differs."""
        console, differences = Console(), self.differences()
        table = Table("check", "parts", "result", title=" -> ".join(r.name for r in self.revisions))
        for name, (a, _) in self.checks.items():
            differing = len(differences.get(name, ()))
            table.add_row(name, str(len(a)), f"{differing} differ" if differing else "equal")
        console.print(table)
        for name, parts in differences.items():
            for part, (a, b) in list(parts.items())[:NAMED]:
                console.print(f"{name}: {part}: {a} -> {b}", markup=False, highlight=False)
            if len(parts) > NAMED:
                console.print(f"{name}: and {len(parts) - NAMED} more")
        speeds = Table("speed", "A", "B", "B / A", "spread of B / A")
        for name, turns in self.speeds.items():
            s = _speed(turns)
            spread = f"{s['lowest_ratio']:.3f} to {s['highest_ratio']:.3f}"
            speeds.add_row(name, f"{s['a']:.4g}", f"{s['b']:.4g}", f"{s['ratio']:.3f}", spread)
        console.print(speeds)


def _speed(turns: list[tuple[float, float]]) -> dict[str, float]:
    ratios = [b / a for a, b in turns]
    return {
        "a": statistics.median(a for a, _ in turns),
        "b": statistics.median(b for _, b in turns),
        "ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "turns": len(turns),
    }


def run(comparison: Comparison, data: Path | None, rounds: int) -> None:
    """Run every job: on drawn data and, where ``data`` is given, on real data."""
    trees = comparison.check("drawn trees", jobs.draw)
    all_inputs = [drawn_inputs(trees)]
    if data is not None:
        all_inputs.append(real_inputs(data.resolve(), comparison.work / "real"))
    for inputs in all_inputs:
        sets = compare_data(comparison, inputs)
    checkpoint = compare_training(comparison, sets)
    for inputs in all_inputs:
        compare_results(comparison, inputs, checkpoint)
    measure(comparison, inputs, sets["clips"], rounds)


def compare_data(comparison: Comparison, inputs: Inputs) -> dict[str, Path]:
    """Pack every set and stream two of them; return the folders of A's sets, which both read."""
    sets = {}
    for name, command in inputs.commands():
        job = partial(jobs.pack, command)
        sets[name] = comparison.check(f"shards of {inputs.name} {name}", job)
    for name, kind in (("clips", "pseudo"), ("videos", "video")):
        job = partial(jobs.batches, sets[name], kind)
        comparison.check(f"batches of {inputs.name} {name}", job)
    return sets


def compare_training(comparison: Comparison, sets: Mapping[str, Path]) -> Path:
    """Train with both, and let B resume A's checkpoints; return A's last checkpoint."""
    for recipe in RECIPES:
        name = f"training, {recipe}"
        run = comparison.check(name, partial(jobs.train, recipe, sets))
        expected = jobs.after_resuming(comparison.checks[name][0])
        out = comparison.work / "b" / f"resumed {recipe}"
        resumed = partial(jobs.resume, recipe, sets, run, comparison.revisions[1], out)
        comparison.record(f"{name}, A's checkpoint resumed by B", expected, resumed)
    return run / "checkpoint.pt"


def compare_results(comparison: Comparison, inputs: Inputs, checkpoint: Path) -> None:
    """Segment a few frames, and score A's label maps and published ones."""
    job = partial(jobs.label_maps, inputs, checkpoint)
    maps = comparison.check(f"label maps of {inputs.name} videos", job)
    for name, masks in with_results(inputs, f"{inputs.name} label maps", maps).results.items():
        comparison.check(f"scores of {name}", partial(jobs.scores, masks))


def measure(comparison: Comparison, inputs: Inputs, clips: Path, rounds: int) -> None:
    """Measure loader, synthesis and scoring."""
    work = {"loader, clips/s": partial(jobs.loader_speed, clips)}
    work["synthesis, clips/s"] = partial(jobs.synthesis_speed, inputs)
    for name, masks in inputs.results.items():
        work[f"scoring {name}, runs/s"] = partial(jobs.scoring_speed, masks)
    for name, job in work.items():
        comparison.measure(name, job, rounds)


if __name__ == "__main__":
    main()

"""Scoring 20 sequences end to end: ``stm score`` next to davis2017-evaluation and vos-benchmark.

Whole processes, from start to exit, on one core and on two; they take turns. The masks are those of
DAVIS 2016 with row filters as DAVIS has them, the results are the masks moved by some pixels, as
``stm eval`` writes them; three sequences have two objects. Without DAVIS the masks are drawn. The
peers are working copies of github.com/davisvideochallenge/davis2017-evaluation and
github.com/hkchengrex/vos-benchmark; their requirements (pandas, OpenCV, scikit-image) must be
importable:

    python -m benchmarks.bench_scoring --davis-evaluation DIR --vos-benchmark DIR [--davis DIR]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_metrics import drawn_pair
from benchmarks.common import ROOT, commit_of, report
from stmtrain.images.decode import decode_mask
from stmtrain.images.encode import encode_mask

Mask = NDArray[np.uint8]
SEQUENCES, PAIRS = 20, 3
FRAMES_DRAWN = 40


def main() -> None:
    """Write the masks, measure, compare the numbers, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--davis", type=Path, help="DAVIS 2016 tree; else masks are drawn")
    parser.add_argument("--davis-evaluation", type=Path, required=True)
    parser.add_argument("--vos-benchmark", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        scored = write_set(work, sequences(arguments.davis))
        tools = tools_of(work, arguments.davis_evaluation, arguments.vos_benchmark)
        measured = measure(tools, work / "results", arguments.repeats)
    table = {
        name: {
            "wall_ms": 1e3 * of["wall"] / scored,
            "cpu_ms": 1e3 * of["cpu"] / scored,
            "wall_times_ours": of["wall"] / measured[f"ours, {name.split(', ')[1]}"]["wall"],
            "cpu_times_ours": of["cpu"] / measured[f"ours, {name.split(', ')[1]}"]["cpu"],
            "j_and_f": of["j_and_f"],
        }
        for name, of in measured.items()
    }
    for name, row in table.items():
        print(f"{name:30}", "  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    results = {
        "masks": "drawn" if arguments.davis is None else "DAVIS 2016",
        "sequences": SEQUENCES,
        "objects_and_frames": scored,
        "per_object_and_frame": table,
        "peers": {
            p.name: commit_of(p) for p in (arguments.davis_evaluation, arguments.vos_benchmark)
        },
        # Where things lie on this machine helps nobody.
        "command": " ".join(["python -m benchmarks.bench_scoring", *map(name_of, sys.argv[1:])]),
    }
    print(report("scoring", results))


def name_of(argument: str) -> str:
    """Return an argument without the folders above it."""
    return Path(argument).name if "/" in argument else argument


def sequences(davis: Path | None) -> list[list[Mask]]:
    """Return the true masks of 17 sequences of one object and three of two."""
    if davis is None:
        rng = np.random.default_rng(0)
        single = [drawn_sequence(rng) for _ in range(SEQUENCES - PAIRS)]
    else:
        folders = sorted((davis / "Annotations" / "480p").iterdir())[: SEQUENCES - PAIRS]
        single = [
            [(decode_mask(p.read_bytes(), str(p)) > 0).view(np.uint8) for p in sorted(f.iterdir())]
            for f in folders
        ]
    pairs = [two_objects(single[i], single[i + 1]) for i in range(PAIRS)]
    return single + pairs


def drawn_sequence(rng: np.random.Generator) -> list[Mask]:
    """Return one drawn object that moves to the right."""
    mask = drawn_pair(rng)[1]
    return [np.roll(mask, 3 * t, axis=1).astype(np.uint8) for t in range(FRAMES_DRAWN)]


def two_objects(first: Sequence[Mask], second: Sequence[Mask]) -> list[Mask]:
    """Put the mirrored object of another sequence behind the one of a sequence."""
    return [
        np.where(a > 0, a, 2 * b[:, ::-1]).astype(np.uint8)
        for a, b in zip(first, second, strict=False)
    ]


def write_set(work: Path, masks: Sequence[Sequence[Mask]]) -> int:
    """Write a DAVIS 2017 tree and results; return the number of objects and scored frames."""
    names = [f"seq{i:02d}" for i in range(len(masks))]
    (work / "ImageSets/2017").mkdir(parents=True)
    (work / "ImageSets/2017/val.txt").write_text("\n".join(names))
    scored = 0
    for name, sequence in zip(names, masks, strict=True):
        truth, result = work / "Annotations/480p" / name, work / "results" / name
        frames = work / "JPEGImages/480p" / name
        for folder in (truth, result, frames):
            folder.mkdir(parents=True)
        for t, mask in enumerate(sequence):
            (truth / f"{t:05d}.png").write_bytes(with_row_filters(mask))
            (result / f"{t:05d}.png").write_bytes(encode_mask(np.roll(mask, (4, -3), (0, 1))))
            (frames / f"{t:05d}.jpg").touch()  # the official code counts them
        scored += (len(sequence) - 2) * int(sequence[0].max())
    return scored


def with_row_filters(mask: Mask) -> bytes:
    """Encode a mask whose rows have the filter Sub, like those of DAVIS."""
    plain = encode_mask(mask)
    start = plain.index(b"IDAT") - 4
    rows = np.diff(mask, axis=1, prepend=np.zeros((len(mask), 1), np.uint8))
    body = zlib.compress(np.insert(rows, 0, 1, axis=1).tobytes(), 9)
    crc = zlib.crc32(b"IDAT" + body).to_bytes(4, "big")
    end = plain.index(b"IEND") - 4
    return plain[:start] + len(body).to_bytes(4, "big") + b"IDAT" + body + crc + plain[end:]


@dataclass(frozen=True)
class Tool:
    """A command that scores, the cores it may use, and how its J&F is read from what it wrote."""

    words: Sequence[object]
    cores: int
    j_and_f: Callable[[], float]

    def run(self, leftovers: Path) -> None:
        """Run it once, from start to exit, without the numbers of an earlier run."""
        for path in leftovers.glob("*.csv"):
            path.unlink()  # the peers reuse what they find
        cores = sorted(os.sched_getaffinity(0))[: self.cores]
        words = ["taskset", "--cpu-list", ",".join(map(str, cores)), *map(str, self.words)]
        subprocess.run(words, check=True, capture_output=True)


def tools_of(work: Path, davis: Path, vos: Path) -> dict[str, Tool]:
    """Return every contestant by its name."""
    results, out = work / "results", work / "ours.json"
    ours = [sys.executable, ROOT / "cli.py", "score", "--videos", work, "--protocol", "davis2017",
            "--results", results, "--json", out, "--workers"]  # fmt: skip
    official = [sys.executable, davis / "evaluation_method.py", "--task", "semi-supervised",
                "--davis_path", work, "--set", "val", "--results_path", results]  # fmt: skip
    other = [sys.executable, vos / "benchmark.py", "-g", work / "Annotations/480p", "-m", results,
             "-n"]  # fmt: skip

    def of_ours() -> float:
        return float(json.loads(out.read_text())["global"]["J&F-Mean"])

    def of_official() -> float:
        return float((results / "global_results-val.csv").read_text().splitlines()[1].split(",")[0])

    def of_other() -> float:
        rows = [line.split(",") for line in (results / "results.csv").read_text().splitlines()]
        return float(next(row for row in rows if row[0].strip() == "Global score")[2]) / 100

    return {
        "ours, 1 core": Tool([*ours, 1], 1, of_ours),
        "davis2017-evaluation, 1 core": Tool(official, 1, of_official),
        "vos-benchmark, 1 core": Tool([*other, 1], 1, of_other),
        "ours, 2 cores": Tool([*ours, 2], 2, of_ours),
        "vos-benchmark, 2 cores": Tool([*other, 2], 2, of_other),
    }


def measure(
    tools: Mapping[str, Tool], leftovers: Path, repeats: int
) -> dict[str, dict[str, float]]:
    """Return J&F, and the medians of wall and CPU seconds, of each; they take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in tools}
    numbers = {}
    for _ in range(repeats):
        for name, tool in tools.items():
            before, start = cpu_seconds(), time.perf_counter()
            tool.run(leftovers)
            times[name].append((time.perf_counter() - start, cpu_seconds() - before))
            numbers[name] = tool.j_and_f()
    medians = {
        name: [statistics.median(of) for of in zip(*t, strict=True)] for name, t in times.items()
    }
    return {
        name: {"wall": wall, "cpu": cpu, "j_and_f": numbers[name]}
        for name, (wall, cpu) in medians.items()
    }


def cpu_seconds() -> float:
    """Return the CPU time of all processes that have ended, seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()

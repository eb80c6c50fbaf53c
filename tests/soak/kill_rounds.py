"""SIGKILL at random moments of ``prepare-coco``, repeatedly, in one folder after another.

Each round forks this process, whose modules are already loaded, lets the child work on the folder
for a random time, and kills it: alone, with its workers, or only one of its workers. Then it checks
the folder, and the next round resumes in it, with another number of workers, and sometimes with
another configuration and ``--overwrite``.
"""

import hashlib
import os
import signal
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stmdata.drawn.trees import draw_coco
from stmdata.packing.clips import ClipOptions, prepare_coco
from stmdata.packing.pack import pack
from stmtrain.errors import StmError

__all__ = ["kill_rounds"]

SEEDS = (0, 1)  # two configurations that compete for one folder


@dataclass
class Soak:
    """The running totals."""

    root: Path
    images: Path
    annotations: Path
    reference: dict[int, dict[str, str]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def prepare(self, out: Path, seed: int, workers: int, overwrite: bool) -> None:
        """Make the set of one configuration."""
        options = ClipOptions(variants=2, size=64, seed=seed, clips_per_shard=4)
        plan = prepare_coco(self.images, self.annotations, options)
        pack(plan, out, workers=workers, overwrite=overwrite)


def kill_rounds(rounds: int, seed: int) -> tuple[dict[str, Any], bool]:
    """Kill ``rounds`` times; return the counts, and whether nothing was ever wrong."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        tree = draw_coco(Path(name) / "coco", images=12, size=(120, 160))
        soak = Soak(
            Path(name), tree / "train2017", tree / "annotations" / "instances_train2017.json"
        )
        for config in SEEDS:
            out = soak.root / f"reference-{config}"
            soak.prepare(out, config, 1, False)
            soak.reference[config] = contents(out)
        for workers in (1, 2):
            start = time.perf_counter()
            child = start_child(soak, soak.root / f"timing-{workers}", 0, workers, False)
            os.waitpid(child, 0)
            soak.seconds[workers] = time.perf_counter() - start
        number = 0
        while soak.counts["kills"] < rounds:
            wear_one_folder(soak, soak.root / f"set-{number}", rng)
            number += 1
    results = {
        "kills": soak.counts["kills"],
        "by what was killed": {k: v for k, v in soak.counts.items() if k.startswith("killed ")},
        "folder after a kill": dict(soak.states.most_common()),
        "folders finished and compared": soak.counts["folders"],
        "taken over with --overwrite": soak.counts["taken over"],
        "refused for another configuration": soak.counts["refused"],
        "seconds of an undisturbed run, by workers": soak.seconds,
        "wrong": len(soak.wrong),
    }
    return results | ({"examples": soak.wrong[:20]} if soak.wrong else {}), not soak.wrong


def contents(folder: Path) -> dict[str, str]:
    """Hash the files of a folder, except those that disappear meanwhile."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def wear_one_folder(soak: Soak, out: Path, rng: np.random.Generator) -> None:
    """Run and kill in one folder until a run completes, then compare."""
    config = there = 0
    while True:
        if rng.random() < 0.15:
            config = 1 - config
        overwrite = config != there and (out / "config.json").exists()
        if overwrite:
            expect_refusal(soak, out, config)
            soak.counts["taken over"] += 1
        workers = 1 if rng.random() < 0.85 else 2
        child = start_child(soak, out, config, workers, overwrite)
        whom = ("all", "parent", "worker")[int(rng.integers(3))] if workers > 1 else "parent"
        wait = rng.uniform(0.4 * (workers > 1), 1.05)  # two workers need the first part to start
        time.sleep(float(wait * soak.seconds[workers]))
        strike(child, whom)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            break
        soak.counts["kills"] += 1
        soak.counts[f"killed {whom}, {workers} workers"] += 1
        if rng.random() < 0.7:  # else the next run meets workers that have not ended yet
            wait_for_group(child)
            look(soak, out)
        there = config_there(soak, out, there)
    wait_for_group(child)
    soak.counts["folders"] += 1
    if contents(out) != soak.reference[config]:
        soak.wrong.append(f"{out.name}: finished, but not as the undisturbed set")


def start_child(soak: Soak, out: Path, config: int, workers: int, overwrite: bool) -> int:
    """Fork a process, in its own group, that makes the set and then exits with 0."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        soak.prepare(out, config, workers, overwrite)
        code = 0
    except StmError:
        code = 2
    finally:
        os._exit(code)


def strike(child: int, whom: str) -> None:
    """Kill the child, its group, or one of its workers."""
    with suppress(ProcessLookupError, FileNotFoundError):
        if whom == "all":
            os.killpg(child, signal.SIGKILL)
        elif whom == "parent":
            os.kill(child, signal.SIGKILL)
        else:
            listed = Path(f"/proc/{child}/task/{child}/children").read_text().split()
            for worker in listed[-1:]:
                os.kill(int(worker), signal.SIGKILL)


def wait_for_group(group: int) -> None:
    """Wait until no process of the group is left."""
    with suppress(ProcessLookupError, PermissionError):
        for _ in range(400):
            os.killpg(group, 0)
            time.sleep(0.025)
        os.killpg(group, signal.SIGKILL)


def config_there(soak: Soak, out: Path, before: int) -> int:
    """Return whose folder it is after a kill: an overwriting run may not have got that far."""
    digest = contents(out).get("config.json")
    found = [seed for seed in SEEDS if soak.reference[seed]["config.json"] == digest]
    return found[0] if found else before


def look(soak: Soak, out: Path) -> None:
    """Check what a kill left: complete files only, and a manifest only with a complete set."""
    found = contents(out)
    complete = {name: digest for name, digest in found.items() if not name.endswith(".tmp")}
    known = [soak.reference[seed] for seed in SEEDS]
    for name, digest in complete.items():
        if digest not in (reference.get(name) for reference in known):
            soak.wrong.append(f"{out.name}: {name} has its final name and is not complete")
    if "manifest.json" in complete and complete not in known:
        soak.wrong.append(f"{out.name}: has a manifest, but is not complete")
    tars = sum(name.endswith(".tar") for name in complete)
    marked = sum(name.endswith(".json") for name in complete) - ("config.json" in complete)
    state = "nothing yet" if not complete else "between shards"
    if "manifest.json" in complete:
        state = "complete set"
    elif tars > marked:
        state = "a tar without its sidecar"
    elif len(found) > len(complete):
        state = "inside a file (.tmp)"
    elif list(complete) == ["config.json"]:
        state = "config.json only"
    soak.states[state] += 1


def expect_refusal(soak: Soak, out: Path, config: int) -> None:
    """Check that a run with other settings is refused and changes nothing."""
    before = contents(out)
    try:
        soak.prepare(out, config, 1, False)
        soak.wrong.append(f"{out.name}: another configuration was not refused")
    except StmError:
        soak.counts["refused"] += 1
    kept = {name: digest for name, digest in before.items() if not name.endswith(".tmp")}
    if not kept.items() <= contents(out).items():
        soak.wrong.append(f"{out.name}: a refused run changed the folder")

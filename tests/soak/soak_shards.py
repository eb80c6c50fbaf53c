"""Stress shard sets: random damage, and random SIGKILLs while they are made.

``python -m tests.soak.soak_shards fuzz --cases 4000`` damages sets of drawn data and counts where
each fault was found; ``python -m tests.soak.soak_shards kill --rounds 500`` kills ``prepare-coco``
at random moments, resumes, and compares with the undisturbed set. Both end with exit code 1 if any
case is wrong.
"""

import argparse
import gc
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import report
from stmdata.checking.repair import repair
from stmdata.checking.verify import verify
from stmdata.drawn.trees import draw_coco, draw_youtube_vos
from stmdata.packing.clips import ClipOptions
from stmtrain.errors import StmError
from stmtrain.shards.sample import sidecar_name
from tests.sets import pack_coco, pack_youtube_vos
from tests.soak import shard_faults
from tests.soak.kill_rounds import kill_rounds
from tests.soak.shard_faults import Files, lay_out, load, pick_file
from tests.soak.shard_outcome import Outcome, how_named, observe, try_fault

OUTCOMES = ("open", "read", "verify", "harmless", "MISSED", "SILENT", "CRASH", "UNNAMED")
BAD = OUTCOMES[-4:]
TARGETS = ("tar", "sidecar", "tar", "manifest", "tar", "sidecar", "tar", "config")
WRONG = "wrong pixels, found by verify only"
PLAIN = "plain webdataset: other samples, no error"
NAMED = "verify names: "
"""With ``sample and byte``, ``byte`` (the end mark) or ``file``: how exactly, where a tar broke."""


@dataclass(frozen=True)
class Subject:
    """A complete set, what it was made from, and what reading it gives."""

    name: str
    folder: Path
    sources: Mapping[str, Path]
    files: Files
    samples: list[tuple[str, str]]
    plain: Any

    @classmethod
    def of(cls, folder: Path, sources: Mapping[str, Path]) -> "Subject":
        """Read a folder as it is."""
        plain = webdataset_view(folder)
        return cls(folder.name, folder, sources, load(folder), observe(folder), plain)


def make_subjects(root: Path) -> list[Subject]:
    """Make a set of clips and one of videos."""
    coco = draw_coco(root / "coco", images=9, size=(120, 160))
    images, annotations = coco / "train2017", coco / "annotations/instances_train2017.json"
    pack_coco(coco, root / "clips", ClipOptions(size=64, clips_per_shard=3))
    videos = draw_youtube_vos(root / "ytvos", train=4, frames=7, size=(48, 64))
    pack_youtube_vos(videos, "train", root / "videos", workers=1, shard_bytes=1)
    return [
        Subject.of(root / "clips", {"images": images, "annotations": annotations}),
        Subject.of(root / "videos", {"root": videos}),
    ]


def webdataset_view(folder: Path) -> list[dict[str, Any]] | None:
    """Read the tars as plain webdataset does; None where it raises."""
    import webdataset

    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    try:
        samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    except Exception:  # noqa: BLE001  (any error will do: it is not silent)
        return None
    keep = ("__key__",)
    return [{k: v for k, v in s.items() if k in keep or not k.startswith("_")} for s in samples]


def repaired(folder: Path, subject: Subject) -> str:
    """Repair a damaged set from its source; return whether its files are as they were."""
    try:
        repair(folder, verify(folder), subject.sources)
    except StmError:
        return "refused"
    found = load(folder)
    same = all(found.get(name) == data for name, data in subject.files.items())
    return "identical" if same else "DIFFERENT"


def fuzz(cases: int, seed: int, repair_every: int) -> tuple[dict[str, Any], bool]:
    """Damage sets at random; return the counts, and whether every fault was found or harmless."""
    rng = np.random.default_rng(seed)
    table: dict[str, Counter[str]] = {"all": Counter()}
    repairs: Counter[str] = Counter()
    examples: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        subjects = make_subjects(Path(root))
        for number in range(cases):
            subject = subjects[int(rng.integers(len(subjects)))]
            work = Path(shutil.copytree(subject.folder, Path(root) / "work"))
            target = TARGETS[number % len(TARGETS)]
            kind, outcome, counts = one_case(subject, work, target, rng)
            for row in (table.setdefault(f"{target}: {kind}", Counter()), table["all"]):
                row.update(counts)
            if outcome.where in BAD:
                examples.append(f"case {number}, {subject.name}, {target}, {kind}: {outcome}")
            if repair_every and number % repair_every == 0 and outcome.where != "harmless":
                repairs[repaired(work, subject)] += 1
            shutil.rmtree(work)
    rows = {kind: {k: v for k, v in table[kind].items() if v} for kind in sorted(table)}
    results = {"cases": cases, "seed": seed, "by fault": rows, "repair": dict(repairs)}
    fine = not examples and not repairs["DIFFERENT"]
    return results | ({"examples": examples[:20]} if examples else {}), fine


def one_case(
    subject: Subject, work: Path, target: str, rng: np.random.Generator
) -> tuple[str, Outcome, Counter[str]]:
    """Damage a copy of a set; return the fault, its outcome, and the counts.

    Where a damaged tar still has its own sidecar, verify must name the damaged bytes.
    """
    damages = shard_faults.FAULTS[target]
    damage = damages[int(rng.integers(len(damages)))]
    name = pick_file(subject.files, target, rng)
    broken = damage(subject.files, name, rng)
    lay_out(work, subject.files, broken)
    outcome = try_fault(work, subject.samples)
    counts = Counter({"cases": 1, WRONG: outcome.wrong_pixels})
    if target == "tar":
        counts[PLAIN] = webdataset_view(work) not in (None, subject.plain)
        if outcome.where != "harmless":
            how = how_named(outcome.faults, name, subject.files[name], broken.get(name))
            counts[f"{NAMED}{how}"] = 1
            sidecar = sidecar_name(name)
            paired = name in broken and broken.get(sidecar) == subject.files[sidecar]
            if how == "file" and paired and outcome.where not in BAD:
                outcome = replace(outcome, where="UNNAMED")
    counts[outcome.where] += 1
    return damage.__name__.replace("_", " "), outcome, counts


def print_table(rows: Mapping[str, Mapping[str, int]]) -> None:
    """Print the counts of a fuzz run."""
    columns = [c for c in ("cases", *OUTCOMES) if c not in BAD or c in rows["all"]]
    columns += [c for c in rows["all"] if c not in columns]
    short = [c.removeprefix(NAMED) if c.startswith(NAMED) else c.split(":")[0] for c in columns]
    print(f"{'fault':34}" + "".join(f"{name.split(',')[0]:>18}" for name in short))
    for kind, row in rows.items():
        print(f"{kind:34}" + "".join(f"{row.get(c, 0):18}" for c in columns))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the two and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("fuzz", "kill"))
    parser.add_argument("--cases", type=int, default=4000, help="faults to try")
    parser.add_argument("--repair-every", type=int, default=10, help="also repair every Nth; 0: no")
    parser.add_argument("--rounds", type=int, default=500, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves files open
    if options.what == "fuzz":
        results, fine = fuzz(options.cases, options.seed, options.repair_every)
        print_table(results["by fault"])
        print("repair:", results["repair"])
    else:
        results, fine = kill_rounds(options.rounds, options.seed)
        for name, value in results.items():
            print(f"{name}: {value}")
    gc.collect()
    print(report(f"soak_shards_{options.what}", results))
    print("\n".join(results.get("examples", [])))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

"""Put every fault into parts of real videos, and count those that the audit does not find.

    python -m tests.soak.audit_faults [--times 2] [--seed 1]

Each video of DAVIS 2016 gives 16 frames from a drawn place; its object is cut in two, so that ids
can change. The report names what was missed, and what was found above a note without any fault.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from stmdata.auditing.audit import Audit, audit
from stmdata.auditing.finding import Severity
from stmdata.auditing.inputs import open_input
from stmtrain.datasets.tree import open_dataset
from stmtrain.datasets.video import Video
from stmtrain.images.encode import encode_mask
from tests.auditing.faults import COUNT, FAULTS, Film, named
from tests.paths import REAL


def part(video: Video, start: int) -> Film:
    """Return 16 frames of a video, with the left and right half of its object as two objects."""
    names = list(video.frames)[start : start + COUNT]
    frames, masks = {}, {}
    for t, name in enumerate(names):
        path = video.frames[name]
        assert isinstance(path, Path)
        frames[named(t)], mask = path.read_bytes(), video.read_mask(name)
        if mask.any():
            right = mask[:, int(np.median(np.nonzero(mask)[1])) :]
            right[right > 0] = 2
        masks[named(t)] = encode_mask(mask)
    return Film(frames, masks)


def audited(film: Film) -> Audit:
    """Audit a video in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return audit([open_input(str(film.write(Path(folder))))])


def main() -> None:
    """Inject, audit, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=2, help="How often each fault is injected.")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    missed: Counter[str] = Counter()
    false: Counter[str] = Counter()
    injected = 0
    for entry in open_dataset(REAL / "davis2016").listing().entries:
        video = entry.open()
        start = int(rng.integers(0, len(video.frames) - COUNT))
        found = audited(part(video, start)).findings
        false.update(f.kind for f in found if f.severity > Severity.NOTE)
        for name, fault in FAULTS.items():
            for _ in range(options.times):
                film, place = part(video, start), int(rng.integers(1, COUNT - 1))
                expected = fault.inject(film, place, rng)
                right = [f for f in audited(film).findings if f.kind == fault.kind]
                injected += 1
                if not any(expected in f.frames or expected in f.what for f in right):
                    missed[name] += 1
                    print(f"missed: {name} in {entry.name}, frame {start + place}")
    print(f"{injected} faults injected, missed {dict(missed)}; without a fault: {dict(false)}")


if __name__ == "__main__":
    main()

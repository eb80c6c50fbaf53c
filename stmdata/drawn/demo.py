"""The complete workflow on drawn data: each step is an ``stm`` command, shown, run and timed."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stmdata.drawn.trees import draw_coco, draw_davis
from stmtrain.datasets.dataset import find_dataset
from stmtrain.errors import StmError, UsageError
from stmtrain.extras import EXTRAS, require
from stmtrain.images.encode import encode_mask

_STM = "stmdata.commands.main"
SIZE = 64
"""Side of clips and short side of videos, pixels: small enough to train on two cores in minutes."""
FRAME = (SIZE, SIZE * 3 // 2)
"""(height, width) of videos, multiples of the network's stride of 16: nothing is padded."""
PRETRAIN_STEPS, MAIN_STEPS, LEARNING_RATE = 40, 440, 4e-4
IMAGES, TRAIN_VIDEOS, VAL_VIDEOS, VIDEO_FRAMES = 48, 64, 16, 20
"""The mean over 16 videos depends less on which ones the seed draws than that over a few."""


@dataclass
class _Steps:
    """The steps taken so far; a step that fails ends the demo with its own message."""

    console: Console
    rows: list[tuple[str, str, float]] = field(default_factory=list)

    def stm(self, made: str, *arguments: object) -> None:
        """Run one ``stm`` command in its own process, as a user would."""
        words = [str(argument) for argument in arguments]
        self.console.print(f"\n$ stm {' '.join(words)}", style="bold", soft_wrap=True)
        began = time.perf_counter()
        code = subprocess.run([sys.executable, "-m", _STM, *words], check=False).returncode
        if code:
            raise StmError(
                f"demo: stm {words[0]} failed with exit code {code}; see its message above"
            )
        self.rows.append((f"stm {words[0]}", made, time.perf_counter() - began))

    def table(self) -> Table:
        """Show what was made and how long each step took."""
        table = Table("step", "made", "seconds", title="stm demo", title_justify="left")
        table.columns[-1].justify = "right"
        for step, made, seconds in self.rows:
            table.add_row(step, made, f"{seconds:.1f}")
        table.add_section()
        table.add_row("all", "", f"{sum(seconds for *_, seconds in self.rows):.1f}")
        return table


def demo(out: Path, *, seed: int, console: Console) -> None:
    """Draw COCO and DAVIS trees; prepare, pack, preview, train both stages, evaluate.

    Args:
        out: Folder for all files; must be empty or absent.
        seed: Decides drawings, synthesis and training.
        console: Prints headings and the final table.

    Raises:
        UsageError: ``out`` is not empty.
        StmError: A step failed.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: the folder is not empty; remove it or choose another --out")
    for module in EXTRAS["prep"]:
        require(module, "demo")
    steps = _Steps(console)
    began = time.perf_counter()
    coco = draw_coco(out / "data" / "coco", IMAGES, (SIZE * 5 // 4, SIZE * 5 // 3), seed)
    davis = draw_davis(
        out / "data" / "davis",
        videos=TRAIN_VIDEOS + VAL_VIDEOS,
        val=VAL_VIDEOS,
        frames=VIDEO_FRAMES,
        size=FRAME,
        objects=(1, 1),  # telling two apart takes far longer to learn from random weights
        ids=(1,),
        seed=seed,
    )
    made = f"{IMAGES} images, {TRAIN_VIDEOS} + {VAL_VIDEOS} videos"
    steps.rows.append(("draw", made, time.perf_counter() - began))
    clips, videos = out / "shards" / "coco", out / "shards" / "davis"
    _prepare(steps, coco, davis, clips, videos, seed)
    _train(steps, clips, videos, out / "runs", seed)
    _compare(steps, davis, out)
    console.print()
    console.print(steps.table())


def _prepare(steps: _Steps, coco: Path, davis: Path, clips: Path, videos: Path, seed: int) -> None:
    annotations = coco / "annotations" / "instances_train2017.json"
    steps.stm(
        f"{clips}",
        *("prepare-coco", "--images", coco / "train2017", "--annotations", annotations),
        *("--out", clips, "--size", SIZE, "--variants", 8, "--seed", seed),
    )
    steps.stm(f"{videos}", "pack-davis", "--root", davis, "--split", "train", "--out", videos)
    for shards in (clips, videos):
        picture = shards.with_suffix(".png")
        steps.stm(f"{picture}", "preview", shards, "--save", picture)


def _train(steps: _Steps, clips: Path, videos: Path, runs: Path, seed: int) -> None:
    """Train both stages as at full size, with settings for a small network without pre-training."""
    common = (
        *("--backbone", "resnet18", "--size", SIZE, "--batch-size", 4, "--seed", seed),
        *("--learning-rate", LEARNING_RATE, "--set", "batchnorm=train", "--set", "warmup=20"),
    )
    first, second = runs / "pretrain", runs / "main"
    steps.stm(
        f"{first}",
        *("train", "--shards", clips, "--out", first, "--recipe", "pretrain"),
        *("--steps", PRETRAIN_STEPS, "--backbone-weights", "none", *common),
    )
    steps.stm(
        f"{second}",
        *("train", "--shards", f"{videos}=7", "--shards", f"{clips}=1", "--out", second),
        *("--recipe", "main", "--steps", MAIN_STEPS, "--init", first / "checkpoint.pt"),
        *("--set", "max_skip=[0, 5]", "--set", f"max_skip_every={MAIN_STEPS // 12}", *common),
    )


def _compare(steps: _Steps, davis: Path, out: Path) -> None:
    """Evaluate on unseen videos, next to repeating the first mask of each video."""
    results, still = out / "results", out / "first-mask"
    steps.stm(
        f"{results}",
        *("eval", "--checkpoint", out / "runs" / "main" / "checkpoint.pt", "--davis", davis),
        *("--out", results),
    )
    for video in find_dataset("davis2017").videos(davis, "val"):
        first = encode_mask(video.read_mask(next(iter(video.masks))))
        (still / video.name).mkdir(parents=True)
        for name in video.frames:
            (still / video.name / f"{name}.png").write_bytes(first)
    report = still / "results.json"
    steps.stm(f"{report}", "score", "--results", still, "--davis", davis, "--json", report)
    page = out / "report.html"
    steps.stm(
        f"{page}",
        *("report", f"STM={results}", f"first mask={still}", "--davis", davis, "--out", page),
    )
    ours = json.loads((results / "results.json").read_text())["scores"]["global"]["J&F-Mean"]
    theirs = json.loads(report.read_text())["global"]["J&F-Mean"]
    steps.console.print(
        f"\nJ&F on {VAL_VIDEOS} videos never seen: {100 * ours:.1f}, "
        f"repeating the first mask: {100 * theirs:.1f}",
        style="bold",
    )

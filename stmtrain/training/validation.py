"""Evaluation while training: a few whole videos, segmented and scored as ``stm eval`` does."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stmtrain.datasets.packed import ShardVideo, shard_videos
from stmtrain.errors import DataError
from stmtrain.inference.evaluate import predict_video
from stmtrain.inference.results import write_mask
from stmtrain.inference.segment import Inference
from stmtrain.model import STM
from stmtrain.scoring.score import score_video
from stmtrain.scoring.scores import ObjectScore, Scores
from stmtrain.training.distributed import Ranks
from stmtrain.training.recipe import TrainRecipe
from stmtrain.training.run_folder import TrainOptions

__all__ = ["VALIDATION_NAME", "Validation", "open_validation"]

VALIDATION_NAME = "validation"


@dataclass(frozen=True)
class Validation:
    """Videos, how to segment them, and the folder for the masks of the last time.

    Each rank takes every so manieth video; all learn the scores of all.
    """

    videos: Sequence[ShardVideo]
    options: Inference
    out: Path
    team: Ranks

    def run(self, model: STM) -> dict[str, float]:
        """Return J, F and their mean over all objects, in [0, 1]; the model's mode is kept."""
        training = model.training
        model.eval()
        objects: list[ObjectScore] = []
        for video in self.videos[self.team.rank :: self.team.world]:
            for name, mask, _ in predict_video(model, video, self.options):
                write_mask(self.out / video.name / f"{name}.png", mask)
            objects += score_video(self.out, video, video.protocol).objects
        model.train(training)
        parts = self.team.gather(objects)
        scores = Scores(tuple(score for part in parts for score in part), self.videos[0].binary)
        return {"j_and_f": scores.j_and_f, "j": scores.j.mean, "f": scores.f.mean}


def open_validation(run: TrainOptions, recipe: TrainRecipe, team: Ranks) -> Validation | None:
    """Open the validation videos of a run, if it has any.

    Raises:
        ShardError: The set is missing, incomplete or damaged.
        DataError: Its videos have no masks to compare with.
    """
    if run.val is None:
        return None
    videos = shard_videos(run.val)
    bare = [video.name for video in videos if len(video.masks) < 3]
    if bare:
        raise DataError(
            f"--val {run.val}: expected videos with masks in three frames or more, found "
            f"{bare[0]} and {len(bare) - 1} more with fewer; pack whole videos with stm pack-davis"
        )
    options = Inference(
        memory_every=recipe.memory_every,
        size=recipe.val_size or None,
        precision=recipe.precision,
    )
    return Validation(videos, options, run.out / VALIDATION_NAME, team)

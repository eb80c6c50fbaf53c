"""Evaluation during training: a few complete videos, as ``stm eval`` and ``stm score`` do it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stmtrain.datasets.packed import ShardVideo, shard_videos
from stmtrain.errors import DataError
from stmtrain.inference.evaluate import predict_video
from stmtrain.inference.options import Inference
from stmtrain.inference.results import write_mask
from stmtrain.model import STM
from stmtrain.scoring.score import score_video
from stmtrain.scoring.scores import ObjectScore, Scores
from stmtrain.training.distributed import Ranks
from stmtrain.training.recipe import TrainRecipe
from stmtrain.training.setup import TrainOptions


@dataclass(frozen=True)
class Validation:
    """The validation videos of a run. They are split across ranks; every rank receives all scores.

    Attributes:
        videos: All of them.
        options: How they are segmented.
        out: Folder for the predicted masks; the next validation replaces them.
        ranks: The processes that validate together.
    """

    videos: Sequence[ShardVideo]
    options: Inference
    out: Path
    ranks: Ranks

    def run(self, model: STM, show: Callable[[str], None] = lambda _: None) -> dict[str, float]:
        """Return J, F and their mean over all objects, in [0, 1]; the model keeps its mode.

        Args:
            model: What is validated.
            show: Called before each video of this rank with what is going on.
        """
        training = model.training
        model.eval()
        objects: list[ObjectScore] = []
        videos = self.videos[self.ranks.rank :: self.ranks.world]
        for number, video in enumerate(videos, start=1):
            show(f"validating, video {number} of {len(videos)}: {video.name}")
            for name, mask in predict_video(model, video, self.options):
                write_mask(self.out / video.name / f"{name}.png", mask)
            objects += score_video(self.out, video, video.protocol).objects
        model.train(training)
        parts = self.ranks.gather(objects)
        scores = Scores(tuple(score for part in parts for score in part))
        return {"j_and_f": scores.j_and_f, "j": scores.j.mean, "f": scores.f.mean}


def open_validation(options: TrainOptions, recipe: TrainRecipe, ranks: Ranks) -> Validation | None:
    """Open the validation videos of a run, if it has any.

    Raises:
        ShardError: The set is missing, incomplete or damaged.
        DataError: A video has too few masks to compare with.
    """
    if options.val is None:
        return None
    videos = shard_videos(options.val)
    bare = [video.name for video in videos if len(video.masks) < 3]
    if bare:
        raise DataError(
            f"--val {options.val}: expected videos with masks in three frames or more, found "
            f"{len(bare)} with fewer (first {bare[0]}); pass a set of videos with dense masks, or "
            "pack it without these"
        )
    inference = Inference(
        memory_every=recipe.memory_every,
        size=recipe.val_size or None,
        precision=recipe.precision,
    )
    return Validation(videos, inference, options.out / "validation", ranks)

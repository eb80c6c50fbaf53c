"""Which checkpoints a run leaves: the last, the best, every so many steps, and one to replay."""

import json
from collections.abc import Mapping
from typing import Any

from stmtrain.files import write_whole
from stmtrain.settings import to_mapping
from stmtrain.training.distributed import Ranks
from stmtrain.training.recipe import TrainRecipe
from stmtrain.training.run_folder import BEST_NAME, CHECKPOINT_NAME, REPLAY_NAME, TrainOptions
from stmtrain.training.step import NonFiniteError, TrainState
from stmtrain.weights.checkpoint import Checkpoint, keep_as, save_checkpoint

__all__ = ["CheckpointSaver", "Sources"]

Sources = tuple[Mapping[str, Any], ...]


class CheckpointSaver:
    """Saves the state by the recipe's policy; only rank 0 writes."""

    def __init__(
        self,
        run: TrainOptions,
        recipe: TrainRecipe,
        sources: Sources,
        state: TrainState,
        team: Ranks,
    ) -> None:
        """Watch ``state``; the checkpoint that is in the run's folder already counts as saved."""
        self.run, self.recipe, self.sources = run, recipe, sources
        self.state, self.team = state, team
        self.path = run.out / CHECKPOINT_NAME
        self.saved = state.step if self.path.exists() else -1

    def save(self) -> None:
        """Write the state of now, unless it is written already."""
        if self.saved != self.state.step and self.team.rank == 0:
            save_checkpoint(self.path, _picture(self.state, self.run, self.recipe, self.sources))
        self.saved = self.state.step

    def after_step(self) -> None:
        """Save what is due."""
        step, every = self.state.step, self.recipe.keep_every
        if step % self.recipe.save_every == 0:
            self.save()
        if every and step % every == 0:
            self.save()
            self._keep_as(f"step-{step:08d}.pt")

    def after_validation(self, score: float) -> None:
        """Save that this step is validated, and keep it if its score is the best so far."""
        better = self.state.best is None or score > self.state.best
        self.state.validated = self.state.step
        self.state.best = score if better else self.state.best
        self.saved = -1
        self.save()
        if better:
            self._keep_as(BEST_NAME)

    def write_replay(self, error: NonFiniteError) -> None:
        """Save what is needed to run the failed step again."""
        keys = [key for part in self.team.gather(list(error.keys)) for key in part]
        if self.team.rank == 0:
            value = {
                "step": self.state.step,
                "keys": keys,
                "why": str(error),
                "shards": [str(shards) for shards in self.run.shards],
                "weights": list(self.run.weights),
                "backbone": self.run.backbone,
                "checkpoint": CHECKPOINT_NAME,
                "recipe": to_mapping(self.recipe),
            }
            write_whole(self.run.out / REPLAY_NAME, json.dumps(value, indent=1) + "\n")

    def _keep_as(self, name: str) -> None:
        if self.team.rank == 0:
            keep_as(self.path, name)


def _picture(
    state: TrainState, run: TrainOptions, recipe: TrainRecipe, sources: Sources
) -> Checkpoint:
    return Checkpoint(
        backbone=run.backbone,
        step=state.step,
        model=state.model.state_dict(),
        optimizer=state.optimizer.state_dict(),
        recipe=to_mapping(recipe),
        sources=sources,
        batchnorm=state.batchnorm,
        ema=None if state.ema is None else state.ema.module.state_dict(),
        best=state.best,
        validated=state.validated,
    )

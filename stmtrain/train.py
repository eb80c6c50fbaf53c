"""The training loop, readable top to bottom: shards, plan, loader, step, records, checkpoint."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch

from stmtrain.files import write_whole
from stmtrain.locks import locked
from stmtrain.settings import to_toml
from stmtrain.streaming.loader import Loader
from stmtrain.streaming.prefetch import ShardPrefetcher
from stmtrain.training.distributed import SINGLE, Ranks, process_group, usable_device
from stmtrain.training.keeper import CheckpointSaver
from stmtrain.training.recipe import TrainRecipe, learning_rate
from stmtrain.training.records import Journal, Progress, open_journal
from stmtrain.training.run_folder import (
    CHECKPOINT_NAME,
    RECIPE_NAME,
    TrainOptions,
    describe_sources,
    open_sets,
    saved_run,
    stop_signals,
)
from stmtrain.training.setup import build_loader, build_plan, build_state
from stmtrain.training.step import LastFrame, NonFiniteError, TrainState, train_step
from stmtrain.training.validation import Validation, open_validation

__all__ = ["train"]


def train(
    run: TrainOptions,
    recipe: TrainRecipe,
    report: Callable[[Progress], None],
    fetched: Callable[[int, int], None] | None = None,
    team: Ranks = SINGLE,
) -> Path:
    """Train, and return the path of the last checkpoint.

    SIGINT and SIGTERM stop it after the step that is running, with a checkpoint saved, by a
    ``KeyboardInterrupt``; ``resume`` goes on with the next batch, with any number of ranks.

    Args:
        run: Shards, output folder, initial weights, device.
        recipe: Every number of the run.
        report: Called after each step.
        fetched: Called while the first step waits for shards from URLs, with how many are here and
            how many it needs.
        team: The processes that train together; each calls this function.

    Raises:
        UsageError: ``out`` holds another run, or the settings do not fit each other.
        ShardError: A shard set is missing, incomplete or damaged.
        RemoteError: A server does not answer, or refuses.
        CheckpointError: Initial weights, or the checkpoint to resume from, do not fit.
        NonFiniteError: The loss became infinite or NaN; ``replay.json`` in ``out`` holds what
            ``stm train --replay`` needs.
    """
    device = usable_device(run.device, team)
    sets, cache_limit = open_sets(run)
    sources = describe_sources(sets, run.weights)
    plan = build_plan(run, recipe, sets)
    with process_group(team, device):
        saved = saved_run(run, recipe, sources)
        state = build_state(run, recipe, saved, device, team)
        validation = open_validation(run, recipe, team)
        team.wait()  # every rank has read what is there before rank 0 writes
        rank, world = team.rank, team.world
        run.out.mkdir(parents=True, exist_ok=True)
        loader = build_loader(run, recipe, sets, plan, device, state.step, team)
        ahead = ShardPrefetcher(
            sets, plan, limit=cache_limit, stop=recipe.steps, rank=rank, world=world
        )
        with locked(run.out) if rank == 0 else nullcontext(), ahead, loader:
            if rank == 0:
                write_whole(run.out / RECIPE_NAME, to_toml(recipe))
            ahead.wait(state.step, fetched)  # before signals are held back: Ctrl-C ends the waiting
            with open_journal(run.out, state.step, state.validated, active=rank == 0) as journal:
                keeper = CheckpointSaver(run, recipe, sources, state, team)
                steps = _steps(state, loader, ahead, recipe, team)
                _run(steps, keeper, journal, validation, report)
    return run.out / CHECKPOINT_NAME


def _run(
    steps: "_Steps",
    keeper: CheckpointSaver,
    journal: Journal,
    validation: Validation | None,
    report: Callable[[Progress], None],
) -> None:
    """Take the steps that are left, and record, validate and save as the recipe says."""
    recipe, state, first = keeper.recipe, keeper.state, keeper.state.step
    with stop_signals() as stop:
        try:
            _validate(keeper, journal, validation)  # what an earlier process was stopped before
            for progress, look in steps(stop.is_set):
                report(progress)
                step, last = progress.step, progress.step == recipe.steps
                if step % recipe.log_every == 0 or last:
                    journal.write(progress)
                if step % recipe.image_every == 0 or last:
                    journal.write_picture(step, *look.pictures())
                if progress.stopping or (keeper.team.world == 1 and stop.is_set()):
                    raise KeyboardInterrupt
                keeper.after_step()
                _validate(keeper, journal, validation)
        except NonFiniteError as error:
            keeper.write_replay(error)
            raise
        finally:
            # Also after bad data or a signal: what was learnt is kept.
            if state.step > first or keeper.saved < 0:
                keeper.save()
    journal.draw_curves()


def _validate(keeper: CheckpointSaver, journal: Journal, validation: Validation | None) -> None:
    """Validate where it is due at this step and not done."""
    recipe, state = keeper.recipe, keeper.state
    due = state.step == recipe.steps or (recipe.val_every and state.step % recipe.val_every == 0)
    if validation is None or not due or state.validated == state.step:
        return
    keeper.save()  # it takes minutes, and who is impatient must not lose steps
    scores = validation.run(state.to_evaluate)
    journal.write_validation(state.step, scores)
    keeper.after_validation(scores["j_and_f"])


def _steps(
    state: TrainState, loader: Loader, ahead: ShardPrefetcher, recipe: TrainRecipe, team: Ranks
) -> "_Steps":
    """Return the steps that are left; before each, every rank tells the others of its signals."""

    def take(asked_to_stop: Callable[[], bool]) -> Iterator[tuple[Progress, LastFrame]]:
        first, seconds, began = state.step, 0.0, time.perf_counter()
        for batch in loader:
            ahead.advance(batch.step)
            result = train_step(state, batch, recipe, team, stop=asked_to_stop())
            now = time.perf_counter()
            seconds += now - began
            yield (
                Progress(
                    step=state.step,
                    steps=recipe.steps,
                    clips=(state.step - first) * recipe.batch_size,
                    loss=result.loss,
                    jaccard=result.jaccard,
                    grad_norm=result.grad_norm,
                    learning_rate=learning_rate(recipe, batch.step),
                    seconds=seconds,
                    waited=loader.waited,
                    gpu_memory=_gpu_memory(batch.frames.device),
                    skipped=loader.skipped,
                    stopping=result.stop,
                ),
                result.look,
            )
            began = time.perf_counter()  # validation and saving are not steps

    return take


_Steps = Callable[[Callable[[], bool]], Iterator[tuple[Progress, LastFrame]]]


def _gpu_memory(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0

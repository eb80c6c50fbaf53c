"""The training loop, readable from top to bottom: steps, records, checkpoints, validation."""

import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stmtrain.processes import Progress
from stmtrain.streaming.loader import Loader
from stmtrain.streaming.prefetch import ShardPrefetcher
from stmtrain.training.distributed import SINGLE, Ranks, process_group, usable_device
from stmtrain.training.recipe import TrainRecipe
from stmtrain.training.records import Journal, Meter, open_journal
from stmtrain.training.run_folder import (
    CheckpointSaver,
    checkpoint_to_resume,
    run_folder,
    stop_signals,
)
from stmtrain.training.setup import TrainOptions, build_loader, build_state, open_data
from stmtrain.training.step import NonFiniteError, TrainState, train_step
from stmtrain.training.validation import Validation, open_validation


def train(
    options: TrainOptions,
    recipe: TrainRecipe,
    progress: Progress,
    ranks: Ranks = SINGLE,
    note: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train, and return the path of the last checkpoint.

    SIGINT and SIGTERM end the run after the current step: a checkpoint is saved and
    ``KeyboardInterrupt`` is raised. With ``resume`` the run continues with the next batch, on any
    number of ranks.

    Args:
        options: Shards, output folder, initial weights, device.
        recipe: Every number of the run.
        progress: Called after each step, and while the first step waits for shards from URLs.
        ranks: The processes that train together; each of them calls this function.
        note: Called at the start with what a user must know of the data.

    Raises:
        UsageError: ``out`` contains another run, or the settings contradict each other.
        ShardError: A shard set is missing, incomplete or damaged.
        RemoteError: A server does not answer, or refuses.
        CheckpointError: Initial weights, or the checkpoint to resume from, do not fit.
        NonFiniteError: The loss became infinite or NaN; ``replay.json`` in ``out`` contains what
            ``stm train --replay`` needs.
    """
    with _open_run(options, recipe, progress, ranks, note) as run, stop_signals() as stop:
        state, saver, journal, meter = run.state, run.saver, run.journal, run.meter
        try:
            _validate_if_due(run, recipe)  # a resumed run may have been stopped before validation
            meter.start()
            for batch in run.loader:
                run.prefetch.advance(batch.step)
                result = train_step(state, batch, recipe, ranks, stop=stop.is_set())
                metrics = meter.measure(batch, result)
                progress(metrics.step, recipe.steps, metrics.note())
                last = metrics.step == recipe.steps
                if last or _due(metrics.step, recipe.log_every):
                    journal.write(metrics)
                if last or _due(metrics.step, recipe.image_every):
                    journal.write_picture(metrics.step, result.last_frame)
                if result.stop or (ranks.world == 1 and stop.is_set()):
                    raise KeyboardInterrupt
                if _due(metrics.step, recipe.save_every):
                    saver.save()
                if _due(metrics.step, recipe.keep_every):
                    saver.keep()
                _validate_if_due(run, recipe)
                meter.start()
        except NonFiniteError as error:
            saver.write_replay(error)
            raise
        finally:
            saver.save()  # also after bad data or a signal: no step is lost
        journal.draw_curves()
    return saver.path


def _due(step: int, every: int) -> bool:
    """Return whether ``step`` is a multiple of ``every``; 0 is never due."""
    return every > 0 and step % every == 0


@dataclass(frozen=True)
class _Run:
    """What the loop works with, opened and ready."""

    state: TrainState
    loader: Loader
    prefetch: ShardPrefetcher
    meter: Meter
    journal: Journal
    saver: CheckpointSaver
    validation: Validation | None


@contextmanager
def _open_run(
    options: TrainOptions,
    recipe: TrainRecipe,
    progress: Progress,
    ranks: Ranks,
    note: Callable[[str], None],
) -> Iterator[_Run]:
    """Open data, model and run folder, in this order: a run that cannot start writes nothing."""
    device = usable_device(options.device, ranks)
    with process_group(ranks, device, options.rank_timeout):
        data = open_data(options, recipe)
        for text in data.notes() if ranks.rank == 0 else ():
            note(text)
        checkpoint = checkpoint_to_resume(options, recipe, data.identity)
        state = build_state(options, recipe, checkpoint, device, ranks)
        validation = open_validation(options, recipe, ranks)
        loader = build_loader(options, recipe, data, device, state.step, ranks)
        prefetch = ShardPrefetcher(
            data.sets,
            data.plan,
            limit=data.cache_limit,
            stop=recipe.steps,
            rank=ranks.rank,
            world=ranks.world,
        )

        def fetched(here: int, needed: int, _note: str) -> None:
            progress(state.step, recipe.steps, f"fetched {here} of the first {needed} shards")

        ranks.wait()  # rank 0 must not write before every rank has read the folder
        with run_folder(options.out, recipe, ranks), prefetch, loader:
            prefetch.wait(state.step, fetched)  # signals are not caught yet, so Ctrl-C ends it
            saver = CheckpointSaver(options, recipe, data.identity, state, ranks)
            with open_journal(
                options.out, state.step, state.validated, active=ranks.rank == 0
            ) as journal:
                meter = Meter(recipe, loader)
                yield _Run(state, loader, prefetch, meter, journal, saver, validation)


def _validate_if_due(run: _Run, recipe: TrainRecipe) -> None:
    """Validate, unless this step is not due or is validated already."""
    state, step = run.state, run.state.step
    due = step == recipe.steps or _due(step, recipe.val_every)
    if run.validation is None or not due or state.validated == step:
        return
    run.saver.save()  # validation takes minutes; save first so that Ctrl-C during it loses nothing
    scores = run.validation.run(state.evaluated_model)
    run.journal.write_validation(step, scores)
    run.saver.save_validated(scores["j_and_f"])


if __name__ == "__main__":  # as launchers start a rank; the command is in a room above this one
    runpy.run_module("stmtrain", run_name="__main__")

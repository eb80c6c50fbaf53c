"""The training loop, readable from top to bottom: steps, records, checkpoints, validation."""

import runpy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stmtrain.processes import Progress
from stmtrain.settings import to_mapping
from stmtrain.streaming.loader import Loader
from stmtrain.streaming.prefetch import ShardPrefetcher
from stmtrain.training.distributed import SINGLE, Ranks, process_group, usable_device
from stmtrain.training.opening import opening
from stmtrain.training.recipe import TrainRecipe
from stmtrain.training.records import Journal, Meter, lines_every, open_journal
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
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train, and return the path of the last checkpoint.

    SIGINT and SIGTERM end the run after the current step: a checkpoint is saved and
    ``KeyboardInterrupt`` is raised. With ``resume`` the run continues with the next batch, on any
    number of ranks.

    Args:
        options: Shards, output folder, initial weights, device.
        recipe: Every number of the run.
        progress: Called after each step, and before what takes long between steps: waiting for data
            or shards, saving, validation.
        ranks: The processes that train together; each of them calls this function.
        say: Called with lines on the run at its start, and with the scores of each validation.

    Raises:
        UsageError: ``out`` contains another run, or the settings contradict each other.
        ShardError: A shard set is missing, incomplete or damaged.
        RemoteError: A server does not answer, or refuses.
        CheckpointError: Initial weights, or the checkpoint to resume from, do not fit.
        NonFiniteError: The loss became infinite or NaN; ``replay.json`` in ``out`` contains what
            ``stm train --replay`` needs.
    """
    with _open_run(options, recipe, progress, ranks, say) as run, stop_signals() as stop:
        state, saver, journal, meter = run.state, run.saver, run.journal, run.meter
        validate_if_due = partial(_validate_if_due, run, recipe, ranks, stop)
        try:
            validate_if_due()  # a resumed run may have been stopped before validation
            run.show("complete") if state.step == recipe.steps else run.show_waiting()
            meter.start()
            for batch in run.loader:
                run.prefetch.advance(batch.step)
                result = train_step(state, batch, recipe, ranks, stop=stop.is_set())
                metrics = meter.measure(batch, result)
                run.show(metrics.note())
                last = metrics.step == recipe.steps
                if last or _due(metrics.step, lines_every(recipe)):
                    journal.write(metrics)
                if last or _due(metrics.step, recipe.image_every):
                    journal.write_picture(metrics.step, result.last_frame)
                if result.stop or (ranks.world == 1 and stop.is_set()):
                    raise KeyboardInterrupt
                if last or _due(metrics.step, recipe.save_every):
                    run.save()
                if _due(metrics.step, recipe.keep_every):
                    saver.keep()
                validate_if_due()
                run.show_waiting(metrics.note())
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
    progress: Progress
    say: Callable[[str], None]

    def show(self, note: str) -> None:
        """Show the step, and the numbers of the step or what is going on."""
        self.progress(self.state.step, self.saver.recipe.steps, note)

    def show_waiting(self, note: str = "") -> None:
        """Show that the next step waits for its data, if it does."""
        if self.state.step < self.saver.recipe.steps and not self.loader.ready:
            self.show(f"waiting for data  {note}".rstrip())

    def save(self) -> None:
        """Write ``checkpoint.pt`` unless it contains this step, which takes seconds."""
        if self.saver.saved != self.state.step:
            self.show("saving")
            self.saver.save()


@contextmanager
def _open_run(
    options: TrainOptions,
    recipe: TrainRecipe,
    progress: Progress,
    ranks: Ranks,
    say: Callable[[str], None],
) -> Iterator[_Run]:
    """Open data, model and run folder, in this order: a run that cannot start writes nothing."""
    device = usable_device(options.device, ranks)
    with process_group(ranks, device, options.rank_timeout):
        data = open_data(options, recipe)
        checkpoint = checkpoint_to_resume(options, recipe, data.identity)
        state = build_state(options, recipe, checkpoint, device, ranks)
        validation = open_validation(options, recipe, ranks)
        loader = build_loader(options, recipe, data, device, state.step, ranks)
        for line in opening(options, recipe, data, state, device, ranks):
            say(line)
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
        with run_folder(options, recipe, data.identity, ranks), prefetch, loader:
            prefetch.wait(state.step, fetched)  # signals are not caught yet, so Ctrl-C ends it
            saver = CheckpointSaver(options, recipe, data.identity, state, ranks)
            with open_journal(
                options.out,
                state.step,
                state.validated,
                active=ranks.rank == 0,
                wandb=options.wandb,
                config=to_mapping(recipe),
            ) as journal:
                meter = Meter(recipe, loader)
                yield _Run(
                    state=state,
                    loader=loader,
                    prefetch=prefetch,
                    meter=meter,
                    journal=journal,
                    saver=saver,
                    validation=validation,
                    progress=progress,
                    say=say,
                )


def _validate_if_due(run: _Run, recipe: TrainRecipe, ranks: Ranks, stop: threading.Event) -> None:
    """Validate, unless this step is not due or is validated already."""
    state, step = run.state, run.state.step
    due = step == recipe.steps or _due(step, recipe.val_every)
    if run.validation is None or not due or state.validated == step:
        return
    run.save()  # validation takes minutes; save first so that Ctrl-C during it loses nothing

    def show(note: str) -> None:
        if ranks.world == 1 and stop.is_set():
            raise KeyboardInterrupt  # the run validates this step when it is resumed
        run.show(note)

    scores = run.validation.run(state.evaluated_model, show)
    run.journal.write_validation(step, scores)
    before = state.best
    run.saver.save_validated(scores["j_and_f"])
    best = "the best so far" if before != state.best else f"the best so far was {before:.1%}"
    run.say(
        "validation at step {}: J&F {j_and_f:.1%}, J {j:.1%}, F {f:.1%}, {}".format(
            step, best, **scores
        )
    )


if __name__ == "__main__":  # as launchers start a rank; the command is in a room above this one
    runpy.run_module("stmtrain", run_name="__main__")

"""Training in several processes: ranks, what they exchange, how they are started.

Each process (rank) trains on its slice of every global batch; gradients are averaged over ranks.
``stm train --gpus N`` starts the ranks on this machine, ``torchrun ... -m stmtrain`` on one machine
or several.
"""

import logging
import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from stmtrain.errors import UsageError

# Ranks wait for each other while shards are fetched or videos are scored.
_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, seen from one of them.

    Attributes:
        rank: This process, in ``[0, world)``; only rank 0 writes files and prints.
        world: Number of processes.
        local_rank: Number of this process on its machine, and of its GPU.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in order of rank, on every rank; peers are trusted."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until every rank has called this."""
        self.gather(None)


SINGLE = Ranks()


def ranks_of(environment: Mapping[str, str]) -> Ranks:
    """Read the variables that torchrun sets; without them there is a single process.

    Raises:
        UsageError: Some are set, but they do not fit together.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "WORLD_SIZE" not in environment:
        return SINGLE
    try:
        rank, world, local = (int(environment[name]) for name in names)
        if not (0 <= local <= rank < world):
            raise ValueError
    except (KeyError, ValueError):
        found = ", ".join(f"{name}={environment.get(name)}" for name in names)
        raise UsageError(
            f"expected RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them, found {found}; "
            "start with torchrun, with --gpus, or unset WORLD_SIZE"
        ) from None
    return Ranks(rank, world, local)


@contextmanager
def process_group(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Connect the ranks, by NCCL between GPUs and gloo otherwise."""
    if ranks.world == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def usable_device(name: str, ranks: Ranks = SINGLE) -> torch.device:
    """Turn ``auto`` into the best device of this machine, and check that a named one is usable.

    With several ranks, ``auto`` and ``cuda`` mean the GPU of the local rank.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and ranks.world > 1:
        name = f"cuda:{ranks.local_rank}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"--device {name}: not usable on this machine ({reason}); try --device cpu"
        ) from None
    return device


def launch(processes: int, device: str, arguments: Sequence[str]) -> int:
    """Run ``python -m stmtrain ARGUMENTS`` in several processes on this machine.

    If one rank fails, the others are stopped. Signals are passed on to all of them.

    Returns:
        The exit code: 0, or that of the rank that failed first.

    Raises:
        UsageError: This machine has fewer GPUs.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    gpus = torch.cuda.device_count()
    if device != "cpu" and gpus < processes:
        raise UsageError(
            f"--gpus {processes}: found {gpus} on this machine; ask for at most as many, or add "
            "--device cpu"
        )
    # The launcher logs twenty lines about an error that the failing rank reports in one.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    try:
        elastic_launch(config, sys.executable)("-m", "stmtrain", *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException:
        return 130
    return 0

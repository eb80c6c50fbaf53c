"""Training in several processes: ranks, what they exchange, how they are started.

Each process (rank) trains on its slice of every global batch; gradients are averaged over ranks.
``stm train --gpus N`` starts the ranks on this machine, ``torchrun ... -m stmtrain`` on one machine
or several.
"""

import logging
import os
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from stmtrain.errors import StmError, UsageError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

# Ranks wait for each other while shards are fetched or videos are scored.
_PATIENCE = timedelta(hours=1)
RANK_TIMEOUT = 300.0
"""Seconds until a rank that does not respond ends the run; also a busy one responds."""
_PULSE = 2.0  # seconds between two signs of life
_STORE_PATIENCE = timedelta(seconds=60)


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
def process_group(
    ranks: Ranks, device: torch.device, rank_timeout: float = RANK_TIMEOUT
) -> Iterator[None]:
    """Connect the ranks, by NCCL between GPUs and gloo otherwise.

    Of an error that ends all ranks, the one that meets it first raises it; the others, which lose
    their peer or meet the same error, exit silently. A rank that does not respond for
    ``rank_timeout`` seconds (stopped, swapped out, its machine lost) is named and ends the run.
    """
    if ranks.world == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    # A connection of its own: that of the group may be waiting.
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=False, timeout=_STORE_PATIENCE
    )
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(ranks, store, rank_timeout, done), daemon=True)
    watch.start()
    try:
        yield
    except Exception as error:
        if not _first_to_fail(store):
            raise SystemExit(1) from None
        if _lost_peer(error):
            raise StmError(
                f"rank {ranks.rank}: lost the connection to another rank, which was killed or "
                "whose machine failed; run the same command again, with --resume if --out has a "
                "checkpoint"
            ) from None
        raise
    finally:
        done.set()
        dist.destroy_process_group()


def _first_to_fail(store: "TCPStore") -> bool:
    try:
        return bool(store.add("stm/failed", 1) == 1)
    except RuntimeError:  # whoever served the store is gone, and cannot report anything
        return True


def _lost_peer(error: Exception) -> bool:
    """Return whether a collective operation failed; gloo raises plain RuntimeErrors."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


def _watch(ranks: Ranks, store: "TCPStore", rank_timeout: float, done: threading.Event) -> None:
    """Give signs of life, and end this process if the next rank gives none."""
    other = (ranks.rank + 1) % ranks.world
    last, missed = -1, 0  # pulses are counted, not seconds: all ranks may be suspended together
    while not done.wait(_PULSE):
        try:
            store.add(f"stm/pulse/{ranks.rank}", 1)
            pulse = store.add(f"stm/pulse/{other}", 0)
        except RuntimeError:
            return  # the run has ended, or its failure reaches the collective operations
        last, missed = pulse, missed + 1 if pulse == last else 0
        if missed * _PULSE >= rank_timeout and not done.is_set():
            if _first_to_fail(store):
                sys.stderr.write(
                    f"stm: rank {other}: no sign of life for {rank_timeout:g} s (stopped, or its "
                    "machine is lost); end it, then run the same command again, with --resume if "
                    "--out has a checkpoint\n"
                )
                sys.stderr.flush()
            os._exit(1)  # the main thread waits for that rank and cannot be interrupted


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
    """Run ``python -m stmtrain.train ARGUMENTS`` in several processes on this machine.

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
            f"--gpus {processes}: found {gpus} on this machine; "
            f"{'ask for at most as many, or ' if gpus else ''}add --device cpu"
        )
    # The launcher logs twenty lines about an error or a signal that a rank reports in one. Each of
    # its modules sets a level of its own.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
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
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # warnings about connections that end
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    try:
        elastic_launch(config, sys.executable)("-m", "stmtrain.train", *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException:
        return 130
    return 0

"""The errors that users can meet, and nothing else.

    StmError                 one line for the user; exit code 1
    ├── UsageError           the command was called wrongly; exit code 2
    ├── RemoteError          a server does not answer, or refuses
    └── DataError            an input file is missing, broken or inconsistent
        ├── ShardError       a tar, sidecar or manifest
        └── CheckpointError  weights or a saved run

Each takes one message string, because DataLoader workers and process pools rebuild an error
from its message alone. The message says where, what was expected, what was found, what to do.
"""

__all__ = [
    "CheckpointError",
    "DataError",
    "RemoteError",
    "ShardError",
    "StmError",
    "UsageError",
]


class StmError(Exception):
    """A problem that the user can act on; printed as one line, without a traceback."""

    exit_code = 1


class UsageError(StmError):
    """The command or a setting was wrong before any data was looked at."""

    exit_code = 2


class RemoteError(StmError):
    """A server cannot be reached, fails again and again, or refuses; says nothing of the data."""


class DataError(StmError):
    """Input data is missing, unreadable or contradicts itself."""


class ShardError(DataError):
    """A shard set is incomplete, damaged, or not what its manifest says."""


class CheckpointError(DataError):
    """A checkpoint or weight file does not fit the model or cannot be read safely."""

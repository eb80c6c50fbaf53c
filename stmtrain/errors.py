"""The errors that users can meet, and nothing else.

Each takes one message string, because DataLoader workers and process pools rebuild an error from
its message alone. The message states the place, what was expected, what was found and what to do.
"""


class StmError(Exception):
    """A problem that the user can solve; printed as one line, without a traceback."""

    exit_code = 1


class UsageError(StmError):
    """The command or a setting is wrong; no data was read yet."""

    exit_code = 2


class RemoteError(StmError):
    """A server cannot be reached, keeps failing, or refuses; the data may be right."""


class DataError(StmError):
    """Input data is missing, unreadable or inconsistent."""


class ShardError(DataError):
    """A shard set is incomplete, damaged, or differs from its manifest."""


class CheckpointError(DataError):
    """A checkpoint or weight file does not fit the model or cannot be read safely."""

"""Reads a pickle without building its objects, to refuse what would take for ever to build.

A tuple that contains another one twice, thirty levels deep, is two hundred bytes of a pickle. As
the key of a dict it is hashed, which takes 2^30 steps that nothing can interrupt.
"""

import pickle
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar

MAX_TUPLE = 1000
"""Elements of a tuple, with those of the tuples in it; those of tensors have about twenty."""


class LargeTupleError(Exception):
    """A tuple exceeds :data:`MAX_TUPLE`."""


def refuse_large_tuples(file: BinaryIO, pickles: int = 1) -> None:
    """Read so many pickles that follow each other.

    Raises:
        LargeTupleError: A tuple exceeds :data:`MAX_TUPLE`.
        pickle.UnpicklingError: A pickle is damaged. If it is only cut short, no error is raised,
            because the reader that builds the objects stops there too.
    """
    try:
        for _ in range(pickles):
            _DryRun(file).load()
    except EOFError:
        return
    except (LargeTupleError, pickle.UnpicklingError):
        raise
    except Exception as error:  # noqa: BLE001  (damaged pickles raise a dozen different types)
        raise pickle.UnpicklingError(repr(error)) from None


class _Nothing:
    """Stands for every class and function, and for what they make."""

    def __new__(cls, *_: object, **__: object) -> "_Nothing":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setitem__(self, _key: object, _value: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...

    def append(self, _value: object) -> None: ...

    extend = add = update = append


class _Tuple(tuple[Any, ...]):
    """A tuple that knows how many elements it has, with those of the tuples in it."""

    total: int


def _counted(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Count the elements of the tuple that ``load`` leaves on the stack."""

    def wrapped(unpickler: Any) -> None:
        load(unpickler)
        made = _Tuple(unpickler.stack[-1])
        made.total = len(made) + sum(part.total for part in made if isinstance(part, _Tuple))
        if made.total > MAX_TUPLE:
            raise LargeTupleError(f"a tuple of {made.total} elements, the limit is {MAX_TUPLE}")
        unpickler.stack[-1] = made

    return wrapped


class _DryRun(pickle._Unpickler):  # the one in C cannot be told how to build a tuple
    dispatch: ClassVar = {
        **pickle._Unpickler.dispatch,
        **{
            code[0]: _counted(pickle._Unpickler.dispatch[code[0]])
            for code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)
        },
    }

    def find_class(self, _module: str, _name: str) -> Any:
        return _Nothing

    def persistent_load(self, _pid: Any) -> Any:
        return _Nothing()

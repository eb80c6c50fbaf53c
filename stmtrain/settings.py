"""Recipes as text: frozen dataclasses of plain values to commented TOML and back.

A recipe field is declared with :func:`setting`, whose text (meaning, unit, source) becomes the
comment after the value. Unknown or wrongly typed fields are errors, never ignored.
"""

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from stmtrain.errors import UsageError
from stmtrain.files import read_regular

T = TypeVar("T")


def setting(default: Any, doc: str) -> Any:
    """Declare a recipe field: its default, and its meaning with unit and source."""
    return dataclasses.field(default=default, metadata={"doc": doc})


def to_mapping(recipe: Any) -> dict[str, Any]:
    """Return the fields as JSON values (tuples become lists)."""
    return {f.name: _plain(getattr(recipe, f.name)) for f in dataclasses.fields(recipe)}


def to_toml(recipe: Any) -> str:
    """Write one ``name = value  # doc`` line per field; ``None`` is written as a comment."""
    lines = []
    for f in dataclasses.fields(recipe):
        value = _plain(getattr(recipe, f.name))
        doc = " ".join(str(f.metadata.get("doc", "")).split())
        text = f"# {f.name} = (none)" if value is None else f"{f.name} = {json.dumps(value)}"
        lines.append(f"{text}  # {doc}" if doc else text)
    return "\n".join(lines) + "\n"


def load_named(
    name: str | Path, known: Mapping[str, T], base: Callable[[Mapping[str, Any]], T], what: str
) -> T:
    """Return the recipe of a name, or the recipe in a TOML file.

    Args:
        name: A key of ``known``, or the path of a TOML file.
        known: Recipes by name.
        base: Receives the values of the file and returns the recipe that they modify: fields that
            the file leaves out keep the value of this recipe. A ValueError becomes a UsageError.
        what: The kind of recipe; opens the error message, for instance ``--recipe``.

    Raises:
        UsageError: There is no such name or file; a field is unknown or has a wrong value.
    """
    if str(name) in known:
        return known[str(name)]
    path = Path(name)
    if not path.is_file():
        names = ", ".join(known)
        raise UsageError(f"{what} {path}: expected {names} or a TOML file, found neither")
    try:
        values = tomllib.loads(read_regular(path).decode())
    except RecursionError:
        raise UsageError(f"{path}: expected a TOML file, found too deeply nested values") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a readable TOML file ({error})") from None
    try:
        chosen = base(values)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return from_mapping(type(chosen), values, str(path), chosen)


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str, base: T | None = None) -> T:
    """Build ``cls`` from plain values; an unknown name or wrong type is a UsageError."""
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(
            f"{where}: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )
    fields = {
        name: _coerce(value, hints[name], f"{where}: {name}") for name, value in values.items()
    }
    try:
        return cls(**fields) if base is None else dataclasses.replace(base, **fields)  # type: ignore[type-var]
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _coerce(value: Any, hint: Any, where: str) -> Any:
    """Check a plain value against the annotated type; ints pass as floats, lists as tuples."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _coerce(value, next(a for a in args if a is not type(None)), where)
    if origin is typing.Literal:
        if value not in args:
            raise UsageError(
                f"{where}: expected one of {', '.join(map(str, args))}, found {value!r}"
            )
        return value
    if origin is tuple and isinstance(value, list | tuple):
        items = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(items) != len(value):
            raise UsageError(f"{where}: expected {len(items)} values, found {len(value)}")
        return tuple(_coerce(v, a, where) for v, a in zip(value, items, strict=True))
    is_bool = isinstance(value, bool)  # which is an int to Python, but not in a recipe
    if hint is float and isinstance(value, int) and not is_bool:
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and is_bool == (hint is bool):
        return value
    raise UsageError(f"{where}: expected {getattr(hint, '__name__', hint)}, found {value!r}")

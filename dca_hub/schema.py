"""YAML and JSON into frozen dataclasses, with nothing forgiven: every complaint names the file and the key."""

import dataclasses
import types
import typing
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dca_hub.errors import DcaHubError

T = TypeVar("T")


class _NoDuplicates(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; here the second is an error."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # the parent class has an error of its own for it
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} appears twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, cls: type[T]) -> T:
    """The file at `path` as an instance of the dataclass `cls`.

    Types are checked against the annotations: str, bool, int, float (a whole number will do), a nested dataclass,
    `X | None`, `tuple[X, ...]`, `Literal[...]` and `dict[...]`, whose values are taken as they are. Fields without a
    default must be there; other keys must not. A ValueError that `cls` raises on construction is reported like a wrong
    type.

    Raises DcaHubError naming the file and, where there is one, the key.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _NoDuplicates)
    except (OSError, UnicodeDecodeError) as error:
        raise DcaHubError(f"{path.name} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise DcaHubError(
            f"{path.name} is not valid YAML, {line}{getattr(error, 'problem', None) or error}."
        ) from error
    return build(cls, data, path.name)


def build(cls: type[T], data: Any, file: str, *, lenient: bool = False, fix: str | None = None) -> T:
    """A mapping as an instance of the dataclass `cls`; see `read_yaml`.

    Args:
        file: what the mapping comes from, for complaints: a file, or a line of one.
        lenient: leave unknown keys out, and take null for a key that is not there.
        fix: what to do about a complaint, as the end of its sentence.
    """
    try:
        return _build(cls, data, file, "", lenient)
    except DcaHubError as error:
        if fix is None:
            raise
        raise DcaHubError(f"{str(error).removesuffix('.')}: {fix}.") from None


def _build(cls: type[T], data: Any, file: str, prefix: str, lenient: bool = False) -> T:
    if not isinstance(data, dict):
        raise DcaHubError(f"{file}: {prefix.rstrip('.') or 'the file'} must be a mapping of keys to values.")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    if lenient:
        data = {key: value for key, value in data.items() if key in fields and value is not None}
    for key in data:
        if key not in fields:
            raise DcaHubError(f"{file}: unknown key {prefix}{key}; the keys are {', '.join(fields)}.")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise DcaHubError(f"{file}: the key {prefix}{name} is missing.")
    hints = typing.get_type_hints(cls)
    values = {key: _convert(hints[key], value, file, prefix + key) for key, value in data.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise DcaHubError(f"{file}: {prefix}{error}.") from error


def _convert(hint: Any, value: Any, file: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _convert(inner, value, file, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise DcaHubError(f"{file}: {key} must be a list, not {value!r}.")
        return tuple(_convert(arguments[0], item, file, f"{key}[{index}]") for index, item in enumerate(value))
    if origin is typing.Literal:
        if value not in arguments:
            raise DcaHubError(f"{file}: {key} must be one of {', '.join(arguments)}, not {value!r}.")
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, file, key + ".")
    if origin is dict:
        if not isinstance(value, dict):
            raise DcaHubError(f"{file}: {key} must be a mapping, not {value!r}.")
        return value
    return _scalar(hint, value, file, key)


def _scalar(hint: type, value: Any, file: str, key: str) -> Any:
    # bool is a subclass of int: without the second test `layers: yes` would pass as 1.
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        words = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
        raise DcaHubError(f"{file}: {key} must be {words[hint]}, not {value!r}.")
    return hint(value)

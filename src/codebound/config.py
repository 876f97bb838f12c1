"""Settings: pydantic models with YAML, `key=value` overrides and a fingerprint."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from codebound.errors import InputError


class Settings(BaseModel):
    """Immutable settings; an unknown key is refused.

    Raises:
        InputError: a value that is not accepted; the setting is named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Names of settings that change no number of what is finished: a run may be taken up with others.
    CHOOSES: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(_message(error)) from None


S = TypeVar("S", bound=Settings)


def build(kind: type[S], values: dict[str, Any]) -> S:
    """Validated settings.

    Raises:
        InputError: an unknown key (the nearest one is suggested) or a value that is not accepted.
    """
    for key in values:
        if key not in kind.model_fields:
            raise InputError(f"unknown setting {key!r}{_suggestion(key, kind.model_fields)}")
    return kind(**values)


def part(kind: type[S], settings: Settings, **values: Any) -> S:
    """The settings of a class whose fields another object has, too, by their names; `values` come before them."""
    shared = {
        name: getattr(settings, name) for name in kind.model_fields if name in type(settings).model_fields
    }
    return build(kind, {**shared, **values})


def with_overrides(settings: S, overrides: Iterable[str]) -> S:
    """The settings with `key=value` applied; values are read as YAML (`arms=[uniform, kmeans]`, `steps=100`).

    `model_fields_set` names what was given, here or before; the rest stands at its defaults.

    Raises:
        InputError: no `=`, YAML that can't be read, or what `build` refuses.
    """
    values: dict[str, Any] = {}
    for item in overrides:
        key, separator, text = item.partition("=")
        if not separator:
            raise InputError(f"--set takes key=value; got {item!r}")
        try:
            values[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"--set {key}: {text!r} can't be read as a YAML value") from None
    return build(type(settings), {**settings.model_dump(exclude_unset=True), **values})


def taken_over(settings: S, values: Mapping[str, Any], source: str, own: Container[str] = ()) -> S:
    """The settings with values that something earlier decides.

    Args:
        values: what is taken over, by name; a setting that is None was not given.
        source: where it comes from, for a refusal: `run=…`.
        own: settings that stay as they were given.

    Raises:
        InputError: a setting that was given with another value, and is not in `own`.
    """
    given = {name for name in settings.model_fields_set if getattr(settings, name) is not None}
    for name, value in values.items():
        if name in given and name not in own and getattr(settings, name) != value:
            raise InputError(
                f"{name}={getattr(settings, name)} contradicts {source}, which has {name}={value}; leave it out"
            )
    kept = {name: value for name, value in values.items() if not (name in given and name in own)}
    return settings.model_copy(update=kept)


def to_yaml(settings: Settings) -> str:
    """The resolved settings, in the order they are declared."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def from_yaml(kind: type[S], path: Path) -> S:
    """Settings from a file that `to_yaml` wrote or a user edited."""
    return build(kind, read_yaml(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """A settings file as it stands.

    Raises:
        InputError: it can't be read, or holds no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as YAML settings: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold a mapping of settings; got {type(values).__name__}")
    return values


def fingerprint(settings: Settings) -> str:
    """Twelve hexadecimal digits that differ when any setting does."""
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(old: Settings, new: Settings, but: Container[str] = ()) -> list[str]:
    """`key: old → new` for each setting that differs, but for those named in `but`."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    changed = [key for key in after if before[key] != after[key] and key not in but]
    return [f"{key}: {before[key]!r} → {after[key]!r}" for key in changed]


def _message(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if not where:  # settings that don't fit together: the input would be all of them
        return first["msg"].removeprefix("Value error, ")
    return f"setting {where}={first['input']!r} is not accepted: {first['msg']}"


def _suggestion(key: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(key, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known settings: {', '.join(names)}"

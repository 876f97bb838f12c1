"""How a study appears in lists and on the command line, before anything of it is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Settings under one name: what `--quick` changes, and what its help says."""

    help: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """An option of a study's command beside those that all have: `--data` fills the setting `data`."""

    name: str
    help: str
    kind: type = str
    setting: str = ""  # the option's own name unless given
    also: Mapping[str, Any] = field(default_factory=dict)  # settings that come with it

    def values(self, given: Any) -> dict[str, Any]:
        """The settings that the option stands for when it is given this value."""
        return {self.setting or self.name: given, **self.also}


@dataclass(frozen=True)
class Entry:
    """A study's name and question, its command's options, and where its declaration is (`package.module:NAME`)."""

    name: str
    question: str
    declaration: str  # imported when the study is run or reported
    help: str = ""  # what its command's help says after the question: a paragraph, examples
    presets: Mapping[str, Preset] = field(default_factory=dict)
    options: tuple[Option, ...] = ()
    jobs: int = -1  # processes unless --jobs is given; −1: one per core

"""The kinds of run that `codebound train` knows: each says how its settings become a task, a model and a report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from codebound import config
from codebound.data.picture_request import PictureRequest
from codebound.engine.recipe import LoopSettings, Recipe
from codebound.engine.task import Task
from codebound.errors import InputError

S = TypeVar("S", bound=LoopSettings)

DEFAULT = "tokenizer"
_PLACES = {  # imported when asked for: they bring heavy packages
    "tokenizer": "codebound.runs.tokenizer:KIND",
    "prior": "codebound.runs.prior:KIND",
    "classifier": "codebound.runs.classifier:KIND",
    "vqvae2": "codebound.runs.hierarchy:KIND",
    "vqgan": "codebound.runs.adversarial:KIND",
    "audio": "codebound.runs.audio:KIND",
    "sound-prior": "codebound.runs.sound_prior:KIND",
}


class Preparation(NamedTuple):
    """A training that is ready to begin.

    Attributes:
        task: with weights as the seed draws them.
        recipe: the loop's settings.
        identity: what besides the settings decides the numbers, by name: a digest of the data.
    """

    task: Task[Any]
    recipe: Recipe
    identity: Mapping[str, str]


class EvaluationOptions(NamedTuple):
    """What a user may ask of `codebound eval`."""

    data: str | None = None  # other data than the run's own
    device: str = "auto"
    perceptual: bool = False  # the feature distance of an extra, too


class RunKind(ABC, Generic[S]):
    """One kind of run.

    Attributes:
        name: in `config.yaml` and on the command line.
        settings: the class of its settings.
        shown: figures on a progress bar: their names in the log, and how they are written.
        asked: the name that it is asked for by on the command line; its own where there is none.
        subject: the setting that holds the folder of the run that this one builds on, where it builds on one.
    """

    name: ClassVar[str]
    settings: type[S]
    asked: ClassVar[str | None] = None
    shown: ClassVar[Sequence[tuple[str, str]]] = ()
    subject: ClassVar[str | None] = None

    def for_subject(self, subject: str) -> RunKind[Any]:
        """This kind, or the one that does the same for what the folder of a run holds."""
        return self

    @abstractmethod
    def default_name(self, settings: S) -> str:
        """A run's name where the user gives none."""

    def resolved(self, settings: S) -> S:
        """The settings with whatever the run that they build on decides, as a run's folder holds them; those that are
        so already stay as they are.

        Raises:
            InputError: a setting that was given and contradicts that run.
        """
        return settings

    def pictures(self, settings: S) -> PictureRequest | None:
        """What its settings ask of pictures, for whoever builds on the run; None for a kind that nothing builds on."""
        return None

    @abstractmethod
    def prepare(self, settings: S) -> Preparation:
        """Data, model and task of resolved settings; weights are drawn from torch's generator, seeded by
        `settings.seed`.

        Raises:
            InputError: settings that don't fit together or the data.
        """

    @abstractmethod
    def finish(self, folder: Path, task: Any, skipped: int, step: int) -> dict[str, Any]:
        """Write model and pictures of a trained task, its averaged weights in place; returns the final figures."""

    @abstractmethod
    def evaluate(self, folder: Path, options: EvaluationOptions) -> dict[str, Any]:
        """The final figures of a finished run, computed anew."""

    @abstractmethod
    def report(self, folders: Sequence[Path], page: Path | None) -> Path:
        """Write the page of one run, or of several side by side."""

    @abstractmethod
    def table(self, figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
        """Rows for a terminal, the first one the head: label, one cell a run, limit."""

    @abstractmethod
    def score(self, figures: Mapping[str, Any]) -> str:
        """A finished run's main figure as text."""


def kind_names() -> tuple[str, ...]:
    """All kinds."""
    return tuple(_PLACES)


def run_kind(name: str) -> RunKind[Any]:
    """The kind of a name.

    Raises:
        InputError: an unknown kind.
    """
    if name not in _PLACES:
        raise InputError(f"kind {name!r} is unknown; accepted: {', '.join(_PLACES)}")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(import_module(module), attribute)


def kind_of_settings(path: Path) -> str:
    """The kind that a settings file names; files from before there were kinds are of the image tokenizer."""
    return str(config.read_yaml(path).get("kind", DEFAULT))

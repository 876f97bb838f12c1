"""The option --model of the commands around compressed files, and the tokenizers that it stands for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codebound.cli import sounds
from codebound.errors import InputError

if TYPE_CHECKING:
    from codebound.codec import Model, SoundModel

ModelFolder = Annotated[
    Path | None,
    typer.Option(
        "--model",
        help="A tokenizer's folder, for files of its indices; or default, or default-speech: those in the package.",
    ),
]


class Models:
    """The tokenizer that was asked for, of pictures or of sound, read when the first file needs it.

    Without one PyTorch, which takes seconds, is left alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @cached_property
    def is_of_sound(self) -> bool:
        """Whether the folder that was given holds an audio tokenizer, or its name is that of the one in the package."""
        if self._folder is None:
            return False
        from codebound.tokenizers import pretrained
        from codebound.tokenizers.audio import DEFAULT_SPEECH

        named = str(self._folder) == DEFAULT_SPEECH
        return named or pretrained.kind_of(pretrained.model_folder(self._folder)) == "AudioTokenizer"

    @cached_property
    def of_pictures(self) -> Model | None:
        """The picture tokenizer; None where none was asked for.

        Raises:
            InputError: the model is one of sound.
        """
        from codebound import codec

        if self.is_of_sound:
            raise InputError(f"the file is a picture: --model {self._folder} is of sound")
        return None if self._folder is None else codec.load_model(self._folder)

    @cached_property
    def of_sound(self) -> SoundModel | None:
        """The audio tokenizer; None for the one in the package."""
        return sounds.model(self._folder)

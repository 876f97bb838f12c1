"""What can be set in the transfer study."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebound.studies.framework.networks import StudyNetworks

Name = Literal["photos", "fashion-mnist", "letters", "spectrograms"]


class Settings(StudyNetworks):
    """Equal networks and steps for every domain.

    Attributes:
        domains: kinds of pictures; Fashion-MNIST is left out where it is not installed.
        pictures: to train on, of those that are made; held_out: of each domain.
        refit_steps: of a decoder, or of everything, on another domain.
        refit_pictures: that another codebook is made from.
    """

    CHOOSES: ClassVar = frozenset({"seeds"})

    domains: tuple[Name, ...] = Field(("photos", "fashion-mnist", "letters", "spectrograms"), min_length=2)
    pictures: int = Field(8192, ge=64)
    held_out: int = Field(512, ge=16)
    codebook_size: int = Field(256, ge=2)
    steps: int = Field(600, ge=1)
    refit_steps: int = Field(200, ge=1)
    refit_pictures: int = Field(256, ge=16)
    lr: float = Field(default=6e-3, ge=0, allow_inf_nan=False)
    warmup: int = Field(default=20, ge=0)
    codebook_warmup: int = Field(default=20, ge=0)

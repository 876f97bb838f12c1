"""What the compression study compares, and on which pictures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from codebound import config

Codec = Literal["jpeg", "webp", "avif", "jxl"]


class Settings(config.Settings):
    """All that decides the study's numbers but the pictures themselves and the versions of the codecs."""

    data: str = "photos"  # the embedded held-out photographs, or a folder
    model: str = ""  # a tokenizer's folder; by default the one in the package
    trade: float | None = Field(default=None, ge=0, allow_inf_nan=False)  # of codebound compress
    codecs: tuple[Codec, ...] = ("jpeg", "webp", "avif")  # jxl needs the extra codebound[jxl]
    most: int = Field(default=32, ge=1)  # pictures
    rate: float = Field(default=0.1, gt=0)  # bits per pixel at which all are compared


QUICK = {"most": 2}

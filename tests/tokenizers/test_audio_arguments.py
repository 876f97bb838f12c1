"""What an audio tokenizer refuses, each by name."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codebound.codec import load_sound_model
from codebound.errors import InputError
from codebound.tokenizers import AudioTokenizer

MODEL = Path(__file__).parents[1] / "codec" / "golden_sounds" / "model"


@pytest.fixture(scope="module")
def tokenizer() -> AudioTokenizer:
    return load_sound_model(MODEL).tokenizer


@pytest.mark.untyped  # with the jaxtyping hook the annotations refuse some of them first
@pytest.mark.parametrize(
    ("wave", "said"),
    [
        (torch.zeros(0, 400), "float32 [0, 400]"),
        (torch.zeros(1, 0), "float32 [1, 0]"),
        (
            torch.zeros(1, 400, dtype=torch.bfloat16),
            "float16, float32 or float64 [b, n], b and n > 0; got torch.bfloat16",
        ),
        (torch.zeros(1, 400, dtype=torch.int16), "torch.int16"),
        (np.zeros((1, 400), dtype=np.float32), "wave must be a tensor; got ndarray"),
        ([[0.0, 0.0]], "wave must be a tensor; got list"),
    ],
)
def test_waves_that_are_refused(tokenizer: AudioTokenizer, wave: Any, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        tokenizer.encode(wave)


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sample_rate": 0}, "sample_rate is 0; it must be an int in 1000 … 384000"),
        ({"sample_rate": -8}, "sample_rate is -8"),
        ({"sample_rate": 44100.5}, "sample_rate is 44100.5"),
        ({"sample_rate": 10**7}, "sample_rate is 10000000"),
        ({"samples": 3000.0}, "samples is 3000.0; it must be an int"),
        ({"samples": 0}, "samples is 0"),
    ],
)
def test_lengths_and_rates_that_are_refused(
    tokenizer: AudioTokenizer, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        tokenizer.decode(torch.zeros(1, 3, 1, dtype=torch.int64), **more)


@pytest.mark.untyped
def test_indices_that_are_refused(tokenizer: AudioTokenizer) -> None:
    with pytest.raises(InputError, match="indices must be integers"):
        tokenizer.decode(torch.zeros(1, 3, 1, dtype=torch.bool))
    with pytest.raises(InputError, match="indices must be a tensor; got ndarray"):
        tokenizer.decode(np.zeros((1, 3, 1), dtype=np.int64))  # pyright: ignore[reportArgumentType]


@pytest.mark.untyped
def test_a_stream_takes_floats_that_numpy_has(tokenizer: AudioTokenizer) -> None:
    with pytest.raises(InputError, match="bfloat16"):
        tokenizer.encoder().push(torch.zeros(400, dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_floats_are_taken(tokenizer: AudioTokenizer, dtype: torch.dtype) -> None:
    """Halves of powers of two are the same number in all of them."""
    wave = torch.where(torch.arange(800) % 3 == 0, 0.25, -0.125)[None]
    assert torch.equal(tokenizer.encode(wave.to(dtype)), tokenizer.encode(wave))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_rate", 100),
        ("hop", 0),
        ("hop", 161),
        ("hop", 8192),
        ("dim", 0),
        ("stages", 0),
        ("codebook_size", -1),
        ("codebook_size", 1),
        ("block", 0),
        ("context", -1),
    ],
)
def test_descriptions_that_are_refused(tokenizer: AudioTokenizer, field: str, value: int) -> None:
    with pytest.raises(InputError, match=f"config: {field} is not accepted"):
        AudioTokenizer.from_config({**tokenizer.config(), field: value})

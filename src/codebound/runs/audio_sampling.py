"""New sounds from an audio tokenizer's integer prior: it will babble; what counts is the likelihood of real sound."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from codebound import arguments
from codebound.codec.sound_model import SoundModel, default_sound_model, load_sound_model
from codebound.codec.sounds import segment_frames
from codebound.coding.drawing import Drawer
from codebound.errors import InputError
from codebound.files import write_bytes, write_text
from codebound.generators.drawing import check_seed
from codebound.runs.audio import to_int16, wav
from codebound.runs.folder import check_new
from codebound.runs.run import check_finished
from codebound.tokenizers.audio import DEFAULT_SPEECH, AudioTokenizer

ABOUT = "samples.json"


class Drawn(NamedTuple):
    """A sound's indices, and what those that are new cost in bits."""

    indices: Int64[Tensor, "t q"]
    bits: float


def open_sampled(run: Path) -> SoundModel:
    """The tokenizer and prior of a run, or those in the package (`default-speech`).

    Raises:
        InputError: not a finished run, or one without a prior.
    """
    if str(run) == DEFAULT_SPEECH:
        model = default_sound_model()
    else:
        check_finished(run)
        model = load_sound_model(run / "model")
    if model.prior is None:
        raise InputError(f"{run} has no prior; fit one: codebound fit-prior {run}")
    return model


def sample(
    run: Path, count: int, seed: int, folder: Path, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Write sounds of a segment each, as WAV, and what their indices would cost.

    Sound number n depends on seed and n alone.

    Raises:
        InputError: as `open_sampled`; a count or seed out of its range; a folder that holds something already.
    """
    arguments.whole("count", count)
    check_seed(seed)
    model = open_sampled(run)
    prior, tokenizer = model.prior, model.tokenizer
    assert prior is not None
    check_new(folder)
    frames, stages = segment_frames(model)[0], len(tokenizer.codebook_sizes)

    def drawn(number: int) -> Drawn:
        """Indices of a segment, and their bits."""
        drawer = Drawer(np.random.default_rng((seed, number)))
        empty = np.zeros((frames, stages), dtype=np.int64)
        return Drawn(torch.from_numpy(prior.code(drawer, empty, tokenizer.frame_code)), drawer.bits)

    about = {"run": str(run), "model": model.digest().hex(), "seed": seed, "indices": frames * stages}
    return write_sounds(folder, tokenizer, drawn, count, about, progress)


def write_sounds(
    folder: Path,
    tokenizer: AudioTokenizer,
    draw: Callable[[int], Drawn],
    count: int,
    about: Mapping[str, Any],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Draw sounds one at a time and write each as WAV, and at last `samples.json`, whose content is returned: what is
    given of it, and of each sound its file, its seconds and the bits of what was drawn."""
    rows = []
    for number in range(count):
        progress(number, count)
        indices, bits = draw(number)
        made = tokenizer.decode(indices[None])[0].numpy()
        name = f"{number:05d}.wav"
        write_bytes(folder / name, wav(to_int16(made), tokenizer.sample_rate))
        seconds = round(len(made) / tokenizer.sample_rate, 3)
        rows.append({"file": name, "seconds": seconds, "bits": round(bits, 3)})
    progress(count, count)
    whole = {**about, "samples": rows}
    write_text(folder / ABOUT, json.dumps(whole, indent=2) + "\n")
    return whole

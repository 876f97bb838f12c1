"""New sounds from an audio tokenizer's integer prior: it will babble; what counts is the likelihood of real sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
from codebound.tokenizers.audio import DEFAULT_SPEECH

ABOUT = "samples.json"


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
    rows = []
    for number in range(count):
        progress(number, count)
        drawer = Drawer(np.random.default_rng((seed, number)))
        empty = np.zeros((frames, stages), dtype=np.int64)
        indices = prior.code(drawer, empty, tokenizer.frame_code)
        made = tokenizer.decode(torch.from_numpy(indices)[None])[0].numpy()
        name = f"{number:05d}.wav"
        write_bytes(folder / name, wav(to_int16(made), tokenizer.sample_rate))
        rows.append({"file": name, "seconds": len(made) / tokenizer.sample_rate, "bits": drawer.bits})
    progress(count, count)
    about = {
        "run": str(run),
        "model": model.digest().hex(),
        "seed": seed,
        "indices": frames * stages,
        "samples": rows,
    }
    write_text(folder / ABOUT, json.dumps(about, indent=2) + "\n")
    return about

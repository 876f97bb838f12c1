"""New sounds from a trained prior of frames, or how a recording might go on: files, and a JSON with likelihoods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from codebound import arguments
from codebound.codec.sounds import BEAM
from codebound.data.sound_reading import read_sound
from codebound.errors import InputError
from codebound.runs.audio_sampling import Drawn, write_sounds
from codebound.runs.folder import check_new
from codebound.runs.sound_prior import load_run
from codebound.sound.resampling import LOUDEST, Resampler
from codebound.tokenizers.audio import AudioTokenizer

SECONDS = 4.0


class SoundSampleOptions(NamedTuple):
    """What a user asks for.

    Attributes:
        count: sounds.
        seconds: of each that are new.
        given: a recording that goes on.
        temperature, top_k, top_p, seed: as `SoundPrior.sample`.
    """

    count: int = 16
    seconds: float = SECONDS
    given: Path | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0


def sample(
    run: Path,
    options: SoundSampleOptions,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Draw sounds and write them to a new folder: WAVs, and `samples.json`, which comes last.

    Sound number n depends on seed, n, the recording and the settings alone; a longer one begins as a shorter one does.

    Returns:
        The content of `samples.json`: settings, hashes, and of each sound its file, its seconds and what its new
        indices cost in bits.

    Raises:
        InputError: not a finished prior of sound, a folder that holds something, a recording that can't be read or is
            shorter than a frame, or what `SoundPrior.sample` refuses.
    """
    # Everything that can be refused is refused before the first sound.
    check_new(folder)
    arguments.whole("count", options.count)
    seconds = arguments.number("seconds", options.seconds, above=0)
    prior, tokenizer = load_run(run)
    known = None if options.given is None else given_frames(tokenizer, options.given)
    frames = max(round(seconds * tokenizer.frame_rate), 1)

    def draw(number: int) -> Drawn:
        """The indices of a sound with what is known before them, and the likelihood of the new ones."""
        drawn = prior.sample(
            frames,
            known=known,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed,
            first=number,
        )[0]
        whole = drawn if known is None else torch.cat([known, drawn])
        return Drawn(whole, float(prior.bits(whole)[len(whole) - frames :].double().sum()))

    about = {
        "run": str(run),
        "settings": {**options._asdict(), "given": None if options.given is None else str(options.given)},
        "codes": prior.tokenizer,
        "given_seconds": 0.0 if known is None else len(known) / tokenizer.frame_rate,
        "indices": frames * len(tokenizer.codebook_sizes),
    }
    return write_sounds(folder, tokenizer, draw, options.count, about, progress)


def given_frames(tokenizer: AudioTokenizer, path: Path) -> Int64[Tensor, "t q"]:
    """The frames of a recording that see nothing behind its end, channels mixed.

    Raises:
        InputError: what `read_sound` refuses, or a recording that is too short for one frame.
    """
    try:
        samples, rate = read_sound(path)
    except InputError as error:
        raise InputError(f"--from {path}: {error}") from None
    mixed = np.rint(samples.mean(0)) / LOUDEST
    # A frame of the transform ends with its hop; a network may look further ahead, and so does a change of the rate.
    ahead = 0 if tokenizer.seanet is None else tokenizer.edges.after
    complete = len(Resampler(rate, tokenizer.sample_rate).push(mixed * LOUDEST))
    whole = complete // tokenizer.hop - ahead
    if whole < 1:
        raise InputError(
            f"--from {path}: {len(mixed) / rate:g} s are too short; a frame needs "
            f"{(1 + ahead) * tokenizer.hop / tokenizer.sample_rate:g} s at least"
        )
    return tokenizer.encode(torch.from_numpy(mixed)[None], rate, beam=BEAM)[0, :whole]

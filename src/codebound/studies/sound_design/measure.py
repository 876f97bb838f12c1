"""A cell of the study: the codes of a seed, or one arm of a decoder's training."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from codebound import config
from codebound.data.sound_sets import SoundSet, open_sounds
from codebound.data.speech import Clip
from codebound.engine.recipe import Recipe
from codebound.evaluate import sounds as evaluation
from codebound.reporting.statistics import mean_interval
from codebound.runs import audio
from codebound.sound.frames import FrameCode, FrameSplitter
from codebound.sound.resampling import LOUDEST
from codebound.studies.framework.training import train_through
from codebound.studies.sound_design.codes import adaptive_bits, codes_of
from codebound.studies.sound_design.settings import LOSSES, Loss, Settings
from codebound.tasks.audio import AudioTask
from codebound.tasks.audio_adversarial import AudioAdversarialTask, untrained_discriminator
from codebound.tokenizers.audio import AudioTokenizer
from codebound.tokenizers.audio_config import NetworkSizes, SeanetSizes
from codebound.tokenizers.audio_fitting import FrameCodeSettings, fit_frame_code
from codebound.tokenizers.audio_streams import LATENT_UNIT

FIT_STEP = 2**41  # where the crops for a fit begin: steps that no training reaches


@lru_cache(maxsize=1)
def sounds_of(data: str, sample_rate: int) -> SoundSet:
    """Read once for all cells of a process."""
    return open_sounds(data, sample_rate)


def clips_of(settings: Settings) -> list[Clip]:
    """The held-out recordings."""
    return sounds_of(settings.data, settings.sample_rate).judged(settings.clips)


def measure_codes(settings: Settings, seed: int) -> dict[str, Any]:
    """Codes of every kind and budget on one transform, judged by what the plain inverse makes of them."""
    frames, code = fitted(settings, seed)
    tokenizer = AudioTokenizer(code, sample_rate=settings.sample_rate, block=50)
    train = (code.latents(frames) / LATENT_UNIT).astype(np.float32)
    clips = clips_of(settings)
    held_out = [_latents(clip, code) for clip in clips]
    rows = []
    for bits in settings.bits:
        for name, found in codes_of(bits, settings.codebook_size, train, settings.iterations, seed).items():
            # How near latents are, and how many bits their indices take.
            indices = [found.encode(z) for z in held_out]
            decoded = [found.decode(part) for part in indices]
            error = sum(float(np.square(z - own).sum()) for z, own in zip(held_out, decoded, strict=True))
            energy = sum(float(np.square(z).sum()) for z in held_out)
            nominal = float(np.log2(found.sizes).sum())
            coded = adaptive_bits(found.encode(train), indices, found.sizes)

            # How they sound.
            figures = _judged(
                settings, clips, lambda at, own=decoded: inverse(tokenizer, own[at] * LATENT_UNIT)
            )
            rate = tokenizer.frame_rate / 1000
            rows.append(
                {
                    "code": name,
                    "bits": bits,
                    "nominal": nominal * rate,
                    "coded": coded * rate,
                    "saved": 100 * (1 - coded / nominal),
                    "snr": 10 * np.log10(energy / error),
                    **figures,
                }
            )
    return {"codes": rows}


def measure_loss(settings: Settings, seed: int, loss: Loss) -> dict[str, Any]:
    """One arm: the figures before its first step and after its last, and the processor's seconds."""
    sounds = sounds_of(settings.data, settings.sample_rate)
    own = arm(settings, seed, loss)
    torch.manual_seed(seed)
    tokenizer, code = audio.untrained(own), config.part(FrameCodeSettings, own)
    learned = tokenizer.seanet is not None
    if not learned:
        tokenizer.take_code(fitted(settings, seed)[1])
    begun = not learned
    if own.adversarial:
        judges = untrained_discriminator(own.discriminators)
        task = AudioAdversarialTask(tokenizer, judges, sounds, own, code, own.steps, seed, begun)
    else:
        task = AudioTask(tokenizer, sounds, own, code, seed, begun)

    def judge(step: int) -> None:
        task.codes.settle()
        before = time.process_time()
        clips = clips_of(settings)
        rows[step] = _judged(
            settings,
            clips,
            lambda at: evaluation.decoded(tokenizer, clips[at], settings.stages, beam=1)[1],
        )
        spent.append(time.process_time() - before)

    # The time of judging is not that of training.
    rows: dict[int, dict[str, float]] = {}
    spent: list[float] = []
    began = time.process_time()
    recipe = config.part(Recipe, own, evaluate_every=own.steps)
    skipped = train_through(task, recipe, points=(0, own.steps), judge=judge)
    seconds = time.process_time() - began - sum(spent)
    weights = sum(p.numel() for p in tokenizer.parameters())
    return {
        "before": rows[0],
        "after": rows[own.steps],
        "seconds": seconds,
        "skipped": skipped,
        "weights": weights,
    }


def arm(settings: Settings, seed: int, loss: Loss) -> audio.Settings:
    """The settings of `codebound train audio` that an arm is."""
    # Sizes of the network that it does not have stay at their defaults.
    other = NetworkSizes if LOSSES[loss].get("network") == "seanet" else SeanetSizes
    unused = {name: field.default for name, field in other.model_fields.items()}
    own = {"seed": seed, "evaluate_every": settings.steps, "warmup": min(50, settings.steps // 4)}
    return config.part(audio.Settings, settings, **{**unused, **own, **LOSSES[loss], "full_depth": 1.0})


def fitted(settings: Settings, seed: int) -> tuple[np.ndarray, FrameCode]:
    """Frames of training, and transform and residual codebooks fitted to them: equal for all arms of a seed."""
    return _fitted(settings.model_dump_json(), seed)


@lru_cache(maxsize=1)
def _fitted(described: str, seed: int) -> tuple[np.ndarray, FrameCode]:
    """Kept for the next cell of the seed."""
    settings = Settings.model_validate_json(described)
    sounds = sounds_of(settings.data, settings.sample_rate)
    length = max(round(settings.seconds * settings.sample_rate / settings.hop), 1) * settings.hop
    frames: list[np.ndarray] = []
    while sum(map(len, frames)) < settings.fit_frames:
        crop = sounds.batch(seed, FIT_STEP + len(frames), 1, length)[0].double().numpy()
        frames.append(FrameSplitter(settings.hop).push(crop))
    joined = np.concatenate(frames)
    return joined, fit_frame_code(joined, config.part(FrameCodeSettings, settings), seed)


@torch.no_grad()
def inverse(tokenizer: AudioTokenizer, latents: np.ndarray) -> np.ndarray:
    """Samples of latents by the transform alone."""
    return tokenizer.linear(torch.from_numpy(latents.astype(np.float32))[None])[0].numpy()


def _latents(clip: Clip, code: FrameCode) -> np.ndarray:
    splitter = FrameSplitter(code.hop)
    frames = np.concatenate([splitter.push(clip.samples.astype(np.float64)), splitter.flush()])
    return (code.latents(frames) / LATENT_UNIT).astype(np.float32)


def _judged(settings: Settings, clips: list[Clip], made: Callable[[int], np.ndarray]) -> dict[str, float]:
    """Means over the recordings."""
    rows = []
    for at, clip in enumerate(clips):
        reference = clip.samples.astype(np.float32) / LOUDEST
        samples = np.clip(made(at)[: len(reference)], -1, 1).astype(np.float32)
        rows.append(evaluation.figures_of(reference, samples, settings.sample_rate, settings.listeners))
    return {name: mean_interval(row[name] for row in rows).mean for name in rows[0]}

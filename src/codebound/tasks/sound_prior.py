"""A prior over frames of sound as a task: windows of indices, of crops as they come or of a tokenised set."""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from codebound.codec.sound_model import SoundModel
from codebound.data.batch_stream import BatchStream
from codebound.data.image_sets import step_random
from codebound.data.sound_sets import SoundSet
from codebound.engine.task import Figures, OptimizerPlan, Score, StepLosses, Task
from codebound.errors import InputError
from codebound.generators.sounds import SoundPrior
from codebound.metrics.usage import entropy_rate
from codebound.sound.resampling import LOUDEST
from codebound.tasks.prior import TokenOptimization, plan
from codebound.tokenizers.audio import AudioTokenizer

QUICK = 2048  # held-out frames that judge it while it trains


class SoundCodes(ABC):
    """Windows of frames, each batch a function of (seed, step).

    Attributes:
        note: what they are, for a report.
        digest: what names them.
        held_out: indices of recordings that a training never sees.
    """

    note: str
    digest: str
    held_out: Sequence[Int64[np.ndarray, "_ q"]]

    def check(self, prior: SoundPrior) -> None:
        """Refuse indices that are none of the prior's codebooks. Raises `InputError`."""
        for recording in self.held_out:
            prior.check(torch.from_numpy(recording))

    @abstractmethod
    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[Tensor]:
        """The batches of this step and all that follow: something for `indices`."""

    @abstractmethod
    def indices(self, batch: Tensor) -> Int64[Tensor, "b t q"]:
        """The indices of a batch, on its device."""


class CropCodes(SoundCodes):
    """Crops of a set of sound, each at a speed and a gain of its own, encoded when a batch needs them.

    Args:
        tokenizer: in eval; it does not learn.
        sounds: recordings.
        held_out: indices of those that judge.
        window: frames of a crop.
        beam: as `AudioTokenizer.encode`.
    """

    def __init__(
        self,
        tokenizer: AudioTokenizer,
        sounds: SoundSet,
        held_out: Sequence[Int64[np.ndarray, "_ q"]],
        window: int,
        beam: int,
    ) -> None:
        self.tokenizer, self.sounds, self.beam = tokenizer, sounds, beam
        self.note, self.digest, self.held_out = sounds.note, sounds.digest, held_out
        self.window = window
        self.length = tokenizer.samples_of(sum(tokenizer.edges) + window)

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[Tensor]:
        return self.sounds.batches(seed, first_step, size, self.length)

    def indices(self, batch: Tensor) -> Tensor:
        # Frames that see silence where the crop was cut are left out.
        first = self.tokenizer.edges.before
        return self.tokenizer.encode(batch / LOUDEST, beam=self.beam)[:, first : first + self.window]


class RowCodes(SoundCodes):
    """The rows of a tokenised set, all in memory; in training one behind the other, so that a window may begin in one
    recording and end in the next.

    Args:
        train, held_out: indices of recordings.
        window: frames of a crop.
        note: as `SoundCodes`.

    Raises:
        InputError: fewer frames to train on than a window has, or none held out.
    """

    def __init__(
        self,
        train: Sequence[Int64[np.ndarray, "_ q"]],
        held_out: Sequence[Int64[np.ndarray, "_ q"]],
        window: int,
        note: str,
    ) -> None:
        frames, judging = sum(map(len, train)), sum(map(len, held_out))
        if frames < window or not judging:
            raise InputError(
                f"{note}: {frames} frames to train on and {judging} held out; at least {window} and 1 are needed"
            )
        self.train = torch.from_numpy(np.concatenate(train))
        self.window, self.held_out, self.note = window, held_out, note
        hashed = hashlib.sha256(self.train.numpy().tobytes())
        for recording in held_out:
            hashed.update(f"{recording.shape}".encode() + recording.tobytes())
        self.digest = hashed.hexdigest()[:16]

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[Tensor]:
        return BatchStream(self._windows(seed, step, size) for step in itertools.count(first_step))

    def indices(self, batch: Tensor) -> Tensor:
        return batch

    def check(self, prior: SoundPrior) -> None:
        super().check(prior)
        prior.check(self.train)

    def _windows(self, seed: int, step: int, size: int) -> Int64[Tensor, "b t q"]:
        starts = step_random(seed, step).integers(len(self.train) - self.window + 1, size=size)
        return torch.stack([self.train[start : start + self.window] for start in starts])


class SoundPriorTask(Task[Tensor]):
    """A `SoundPrior` on the indices of a tokenizer.

    Args:
        prior: what is trained.
        codes: windows to train on and held-out frames to judge by.
        settings: rates and the like.
        model: the tokenizer that the indices are of, with its integer prior, if it has one.

    Raises:
        InputError: indices that are none of the prior's codebooks.
    """

    kind = "sound-prior"
    unit = "crops"
    score = Score("bits_per_token", "lower")
    averaged = ("prior",)

    def __init__(
        self, prior: SoundPrior, codes: SoundCodes, settings: TokenOptimization, model: SoundModel
    ) -> None:
        codes.check(prior)
        self.prior, self.codes, self.settings, self.model = prior, codes, settings, model
        self.modules: Mapping[str, nn.Module] = {"prior": prior}

    def optimizers(self) -> Mapping[str, OptimizerPlan]:
        """The matrices of the transformer, which decay; all others, which don't."""
        return {"prior": plan(self.prior, self.prior.body, self.settings)}

    def batches(self, seed: int, first_step: int, size: int) -> BatchStream[Tensor]:
        """Those of the codes."""
        return self.codes.batches(seed, first_step, size)

    def initialise(self, batches: Iterator[Tensor], devices: int) -> None:
        """Nothing begins from data."""

    def losses(self, batch: Tensor, step: int) -> StepLosses:
        """Cross-entropy of the indices, in nats per index."""
        loss = self.prior.costs(self.codes.indices(batch)).mean()
        return StepLosses({"prior": loss}, {"loss": loss})

    def evaluate(self) -> Figures:
        """Bits per index of the first held-out frames."""
        return {"bits_per_token": float(torch.cat(self.held_out_bits(QUICK)).mean())}

    def held_out_bits(self, count: int | None = None) -> list[Float[Tensor, "_ q"]]:
        """Bits of each index of the held-out recordings, each judged by itself; of so many first frames."""
        found: list[Tensor] = []
        for recording in self.codes.held_out:
            left = None if count is None else count - sum(map(len, found))
            if left is None or left > 0:
                indices = torch.from_numpy(recording[:left]).to(self.prior.start.device)
                found.append(self.prior.bits(indices).cpu())
        return found


def stage_entropies(indices: Int64[np.ndarray, "t q"], codebook_size: int) -> list[float]:
    """Bits per index of each stage by the entropy of its held-out indices alone (Miller–Madow)."""
    counts = (torch.from_numpy(column).bincount(minlength=codebook_size) for column in indices.T)
    return [float(entropy_rate(count)) for count in counts]

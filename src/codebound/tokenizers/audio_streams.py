"""Sound to indices and back while it comes, piece by piece: the same numbers as all of it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int, Int64
from torch import Tensor

from codebound import arguments
from codebound.data.sound_reading import whole_samples
from codebound.errors import InputError
from codebound.sound.frames import FrameSplitter
from codebound.sound.resampling import Resampler

if TYPE_CHECKING:
    from codebound.tokenizers.audio import AudioTokenizer


class AudioEncoder:
    """One channel of sound to frames of indices.

    Args:
        tokenizer: whose transform and codebooks.
        sample_rate: of what is pushed.
        stages: codebooks that are used, the first ones.
        beam: partial sums that are kept in the search.
    """

    def __init__(
        self, tokenizer: AudioTokenizer, sample_rate: int, stages: int | None = None, beam: int = 1
    ) -> None:
        self._code = tokenizer.frame_code
        most = self._code.stages
        self._stages = most if stages is None else arguments.whole("stages", stages, most=most)
        self._beam = arguments.whole("beam", beam, most=64)
        self._resampler = Resampler(sample_rate, tokenizer.sample_rate)
        self._splitter = FrameSplitter(self._code.hop)
        self.samples = 0  # that were pushed

    def push(self, samples: Tensor | np.ndarray) -> Int64[np.ndarray, "t q"]:
        """The frames that samples in [−1, 1] complete.

        Raises:
            InputError: not one axis, no floats, or a sample that is not finite.
        """
        if isinstance(samples, Tensor) and samples.dtype is torch.bfloat16:
            raise InputError("samples are torch.bfloat16; float16, float32 and float64 are accepted")
        values = np.asarray(samples)
        if values.ndim != 1 or values.dtype.kind != "f":
            raise InputError(f"samples must be floats [n]; got {values.dtype} {list(values.shape)}")
        return self.push_whole(whole_samples(values)[0])

    def push_whole(self, samples: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, "t q"]:
        """The same of whole samples in −2^15 … 2^15 − 1."""
        self.samples += len(samples)
        return self._indices(self._splitter.push(self._resampler.push(samples)))

    def flush(self) -> Int64[np.ndarray, "t q"]:
        """The last frames; nothing can be pushed after it."""
        rest = self._splitter.push(self._resampler.flush())
        return self._indices(np.concatenate([rest, self._splitter.flush()]))

    def _indices(self, frames: Float64[np.ndarray, "t w"]) -> Int64[np.ndarray, "t q"]:
        return self._code.search(self._code.latents(frames), self._stages, self._beam)


class AudioDecoder:
    """Frames of indices of one channel to samples at the tokenizer's rate.

    Samples come in blocks that are decoded each by itself with the same frames around it, so that they don't depend on
    how the frames came: a block and `context` frames of delay.

    Args:
        tokenizer: its decoder.
        within: what is pushed begins `context` frames before the first block, not with the sound.
    """

    def __init__(self, tokenizer: AudioTokenizer, *, within: bool = False) -> None:
        self._tokenizer = tokenizer
        self._block, self._context = tokenizer.block, tokenizer.context
        # Before the first frame of a sound there is silence.
        silent = 0 if within else self._context
        self._latents = np.zeros((silent, tokenizer.frame_code.dim), dtype=np.float32)

    def push(self, indices: Int[np.ndarray, "t q"]) -> Float32[np.ndarray, " n"]:
        """The samples of the blocks that frames complete."""
        z = self._tokenizer.frame_code.decode(indices).astype(np.float32)
        self._latents = np.concatenate([self._latents, z])
        return self._blocks()

    def flush(self) -> Float32[np.ndarray, " n"]:
        """The samples of all blocks that are left, with silence behind the last frame."""
        self._latents = np.concatenate(
            [self._latents, np.zeros((self._block + self._context, self._latents.shape[1]), dtype=np.float32)]
        )
        return self._blocks()

    def _blocks(self) -> Float32[np.ndarray, " n"]:
        width = self._block + 1 + 2 * self._context
        out = []
        while len(self._latents) >= width:
            out.append(self._tokenizer.decode_block(self._latents[:width]))
            self._latents = self._latents[self._block :]
        return np.concatenate(out) if out else np.zeros(0, dtype=np.float32)

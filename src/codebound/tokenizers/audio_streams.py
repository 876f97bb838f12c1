"""Sound to indices and back while it comes, piece by piece: the same numbers as all of it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int, Int64
from torch import Tensor

from codebound import arguments
from codebound.data.sound_reading import whole_samples
from codebound.errors import InputError
from codebound.sound.frames import COMPANDED, FrameCode, FrameSplitter, whole_latents
from codebound.sound.resampling import LOUDEST, Resampler

if TYPE_CHECKING:
    from codebound.tokenizers.audio import AudioTokenizer


MOST_BEAM = 64  # partial sums of a search
LATENT_UNIT = COMPANDED / 8  # of latents, as networks see them


@runtime_checkable  # beartype checks annotations with it
class Analysis(Protocol):
    """Samples of one channel, at the tokenizer's rate, to latents while they come."""

    def push(self, samples: Float64[np.ndarray, " n"]) -> Float32[np.ndarray, "t d"]:
        """The latents that whole samples in −2^15 … 2^15 − 1 complete."""
        ...

    def flush(self) -> Float32[np.ndarray, "t d"]:
        """The last latents; nothing can be pushed after it."""
        ...


class TransformAnalysis:
    """By a transform of whole numbers."""

    def __init__(self, code: FrameCode) -> None:
        self._code, self._splitter = code, FrameSplitter(code.hop)

    def push(self, samples: Float64[np.ndarray, " n"]) -> Float32[np.ndarray, "t d"]:
        return self._code.latents(self._splitter.push(samples))

    def flush(self) -> Float32[np.ndarray, "t d"]:
        return self._code.latents(self._splitter.flush())


class NetworkAnalysis:
    """By a `Seanet`, in blocks with the same hops around them, each by itself: pieces and batches change nothing.

    Latents come a block of delay later, and as many hops more as the network looks ahead.
    """

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        assert tokenizer.seanet is not None
        self._network, self._block, self._hop = tokenizer.seanet, tokenizer.block, tokenizer.hop
        self._reach = tokenizer.seanet.encoded
        self._device = tokenizer.codebooks.device
        # Before the first sample there is silence.
        self._held = np.zeros(self._reach.before * self._hop)
        self._taken = self._given = 0

    def push(self, samples: Float64[np.ndarray, " n"]) -> Float32[np.ndarray, "t d"]:
        self._taken += len(samples)
        self._held = np.concatenate([self._held, samples])
        width = (self._reach.before + self._block + self._reach.after) * self._hop
        out = [np.zeros((0, self._network.dim), dtype=np.float32)]
        while len(self._held) >= width:
            out.append(self._latents(self._held[:width]))
            self._held = self._held[self._block * self._hop :]
        self._given += self._block * (len(out) - 1)
        return np.concatenate(out)

    def flush(self) -> Float32[np.ndarray, "t d"]:
        # Silence behind the last sample, until its frame has come; frames of silence alone are left out.
        frames, given = -(-self._taken // self._hop), self._given
        missing = (frames + self._block + self._reach.after) * self._hop - self._taken
        return self.push(np.zeros(missing))[: frames - given]

    @torch.no_grad()
    def _latents(self, samples: Float64[np.ndarray, " n"]) -> Float32[np.ndarray, "t d"]:
        x = torch.from_numpy((samples / LOUDEST).astype(np.float32))[None].to(self._device)
        # Indices are the same whatever precision is around them.
        with torch.autocast(self._device.type, enabled=False):
            z = self._network.encode(x)[0, self._reach.before : self._reach.before + self._block]
        return whole_latents(z.double().cpu().numpy() * LATENT_UNIT)


class LatentStream:
    """One channel of sound to latents, whole numbers, while it comes.

    Args:
        tokenizer: whose transform or network.
        sample_rate: of what is pushed.
    """

    def __init__(self, tokenizer: AudioTokenizer, sample_rate: int) -> None:
        self._resampler = Resampler(sample_rate, tokenizer.sample_rate)
        self._analysis = tokenizer.analysis()
        self.samples = 0  # that were pushed

    def push(self, samples: Float64[np.ndarray, " n"]) -> Float32[np.ndarray, "t d"]:
        """The latents that whole samples in −2^15 … 2^15 − 1 complete."""
        self.samples += len(samples)
        return self._analysis.push(self._resampler.push(samples))

    def flush(self) -> Float32[np.ndarray, "t d"]:
        """The last latents; nothing can be pushed after it."""
        rest = self._analysis.push(self._resampler.flush())
        return np.concatenate([rest, self._analysis.flush()])


class AudioEncoder:
    """One channel of sound to frames of indices.

    Args:
        tokenizer: whose transform or network, and codebooks.
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
        self._beam = arguments.whole("beam", beam, most=MOST_BEAM)
        self._latents = LatentStream(tokenizer, sample_rate)

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
        return self._indices(self._latents.push(samples))

    def flush(self) -> Int64[np.ndarray, "t q"]:
        """The last frames; nothing can be pushed after it."""
        return self._indices(self._latents.flush())

    def _indices(self, latents: Float32[np.ndarray, "t d"]) -> Int64[np.ndarray, "t q"]:
        return self._code.search(latents, self._stages, self._beam)


class AudioDecoder:
    """Frames of indices of one channel to samples at the tokenizer's rate.

    Samples come in blocks that are decoded each by itself with the same frames around it, so that they don't depend on
    how the frames came: a block and the frames `after` it of delay.

    Args:
        tokenizer: its decoder.
        within: what is pushed begins `before` frames before the first block, not with the sound.
    """

    def __init__(self, tokenizer: AudioTokenizer, *, within: bool = False) -> None:
        self._tokenizer = tokenizer
        self._block = tokenizer.block
        self._width = tokenizer.before + tokenizer.block + tokenizer.after
        # What behind the last frame completes its block.
        self._end = tokenizer.block + tokenizer.after - tokenizer.overlap
        # Before the first frame of a sound there is silence.
        silent = 0 if within else tokenizer.before
        self._latents = np.zeros((silent, tokenizer.frame_code.dim), dtype=np.float32)

    def push(self, indices: Int[np.ndarray, "t q"]) -> Float32[np.ndarray, " n"]:
        """The samples of the blocks that frames complete."""
        z = self._tokenizer.frame_code.decode(indices).astype(np.float32)
        self._latents = np.concatenate([self._latents, z])
        return self._blocks()

    def flush(self) -> Float32[np.ndarray, " n"]:
        """The samples of all blocks that are left, with silence behind the last frame."""
        end = np.zeros((self._end, self._latents.shape[1]), dtype=np.float32)
        self._latents = np.concatenate([self._latents, end])
        return self._blocks()

    def _blocks(self) -> Float32[np.ndarray, " n"]:
        out = []
        while len(self._latents) >= self._width:
            out.append(self._tokenizer.decode_block(self._latents[: self._width]))
            self._latents = self._latents[self._block :]
        return np.concatenate(out) if out else np.zeros(0, dtype=np.float32)

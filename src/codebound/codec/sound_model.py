"""What turns sound into indices and says which are likely: an audio tokenizer with its prior."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from codebound import arguments
from codebound.codec.sound_segments import SegmentCoding
from codebound.coding.container import CODEBOOK, HASH, LEVELS
from codebound.coding.errors import CodecError
from codebound.priors.frame_prior import DESCRIPTION, FramePrior, load_frame_prior
from codebound.tokenizers.audio import DEFAULT_SPEECH, AudioTokenizer, audio_folder


@dataclass(frozen=True, eq=False)
class SoundModel:
    """An audio tokenizer in eval on the CPU, and its prior or None.

    Raises:
        CodecError: codebooks that a file can't hold, or a prior of others.
    """

    tokenizer: AudioTokenizer
    prior: FramePrior | None = None

    def __post_init__(self) -> None:
        sizes = self.tokenizer.codebook_sizes
        if len(sizes) > LEVELS or max(sizes) > CODEBOOK:
            raise CodecError(
                f"the tokenizer has codebook sizes {sizes}; up to {LEVELS} of {CODEBOOK} are accepted"
            )
        prior, dim = self.prior, self.tokenizer.frame_code.dim
        if prior is not None and (prior.codebook_size, prior.dim, len(prior.networks)) != (
            sizes[0],
            dim,
            len(sizes),
        ):
            raise CodecError(
                f"the prior is for other codebooks than the tokenizer's {len(sizes)} of {sizes[0]}"
            )

    @property
    def coding(self) -> SegmentCoding:
        """What segments are coded by."""
        code = self.tokenizer.frame_code
        return SegmentCoding(self.tokenizer.codebook_sizes[0], self.prior, code)

    def digest(self) -> bytes:
        """What names the model in a file: 8 bytes of a SHA-256 over description, codebooks, weights and prior, as they
        are at the first call."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        hashed = hashlib.sha256(json.dumps(self.tokenizer.config(), sort_keys=True).encode())
        for name, tensor in sorted(self.tokenizer.state_dict().items()):
            tensor = tensor.detach().cpu().contiguous()
            hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            hashed.update(tensor.numpy().tobytes())
        hashed.update(b"" if self.prior is None else self.prior.digest())
        return hashed.digest()[:HASH]

    def stages(self, bitrate: float | None) -> int:
        """How many stages have so many kbit a second before they are coded: the nearest number; all if not given.

        Raises:
            InputError: no finite number.
            CodecError: more than all stages have, or less than half of what one has.
        """
        sizes = self.tokenizer.codebook_sizes
        if bitrate is None:
            return len(sizes)
        of_one = self.tokenizer.kbit(1)
        found = round(arguments.number("bitrate", bitrate) / of_one)
        if not 1 <= found <= len(sizes):
            raise CodecError(
                f"bitrate is {bitrate:g}; {of_one:g} … {of_one * len(sizes):g} kbit/s for each channel are accepted"
            )
        return found


def load_sound_model(source: str | Path) -> SoundModel:
    """A tokenizer that `save_pretrained` wrote, and what `codebound fit-prior` put beside it, if it did.

    Args:
        source: a folder; `"default-speech"` is that of the model in the package.

    Raises:
        InputError: no such folder, or files that are damaged or don't fit together.
    """
    tokenizer = AudioTokenizer.from_pretrained(source)
    folder = Path(audio_folder(source))
    return SoundModel(tokenizer, load_frame_prior(folder) if (folder / DESCRIPTION).is_file() else None)


@cache
def default_sound_model() -> SoundModel:
    """The model in the package: for speech at 16 kHz (see its README.md)."""
    return load_sound_model(DEFAULT_SPEECH)

"""Neural codecs of the package transformers with files of ours: EnCodec, DAC and Mimi, from a user's folder.

```python
model = EncodecModel.from_pretrained("my/encodec_24khz")
adapter = CodecAdapter(model)
adapter.fit_prior([wave, …])                # floats in [−1, 1] at the model's rate
data = adapter.compress(wave)               # a .cbd file
wave = adapter.decompress(data)
```

Their published weights can't be had where this was written: it is tested with small random models of each class. A
whole sound is encoded at once, as these models are not of whole numbers; indices in a file are exact, on any machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor, nn

from codebound import files
from codebound.codec.sound_segments import SegmentCoding, decode_segment, encode_segment
from codebound.coding import sound_container
from codebound.coding.container import HASH
from codebound.coding.errors import CodecError, DamagedFile, WrongModel
from codebound.coding.sound_container import SoundHeader, pack_end, pack_segment
from codebound.errors import InputError
from codebound.priors.frame_fitting import FrameFitSettings, fit_frame_prior
from codebound.priors.frame_prior import FramePrior, load_frame_prior
from codebound.sound.frames import ResidualCode

KINDS = ("EncodecModel", "DacModel", "MimiModel")
SEEN = 64  # dimensions of codewords that a prior looks at, at most
SEGMENT = 2.0  # seconds
CONTEXT = "context.safetensors"


class CodecAdapter:
    """One of these models with files and a prior.

    Args:
        model: an `EncodecModel`, `DacModel` or `MimiModel`, mono.

    Raises:
        InputError: another model, or one of several channels or with a scale for each chunk (EnCodec at 48 kHz).
    """

    def __init__(self, model: nn.Module) -> None:
        self.kind = type(model).__name__
        config: Any = getattr(model, "config", None)
        if self.kind not in KINDS or config is None:
            raise InputError(f"model is a {self.kind}; {', '.join(KINDS)} are accepted")
        if getattr(config, "audio_channels", 1) != 1 or getattr(config, "normalize", False):
            raise InputError(
                "model has several channels, or scales of its own for each chunk; mono ones are accepted"
            )
        self.model: Any = model.eval()
        self.sample_rate = int(config.sampling_rate)
        self.codebook_size = int(config.codebook_size)
        self.prior: FramePrior | None = None
        self._context: ResidualCode | None = None

    @torch.no_grad()
    def encode(self, wave: Float[Tensor, " n"]) -> Int64[np.ndarray, "t q"]:
        """Indices of a mono sound in [−1, 1] at the model's rate.

        Raises:
            InputError: no samples, or some that are not finite.
        """
        if not wave.numel() or not bool(wave.isfinite().all()):
            raise InputError("wave has no samples, or some that are not finite")
        x = wave.float()[None, None]
        if self.kind == "EncodecModel":
            codes = self.model.encode(x, bandwidth=max(self.model.config.target_bandwidths)).audio_codes[0]
        else:
            codes = self.model.encode(x).audio_codes
        return codes[0].T.cpu().numpy().astype(np.int64)

    @torch.no_grad()
    def decode(self, indices: Int64[np.ndarray, "t q"], samples: int) -> Float32[Tensor, " n"]:
        """So many samples at the model's rate; silence where the model gives fewer."""
        codes = torch.from_numpy(np.ascontiguousarray(indices.T))[None]
        if self.kind == "EncodecModel":
            made = self.model.decode(codes[None], [None]).audio_values
        elif self.kind == "DacModel":
            made = self.model.decode(audio_codes=codes).audio_values
        else:
            made = self.model.decode(codes).audio_values
        made = made.reshape(-1)[:samples].float()
        return nn.functional.pad(made, (0, samples - len(made)))

    def fit_prior(
        self,
        waves: Sequence[Float[Tensor, " _"]],
        settings: FrameFitSettings = FrameFitSettings(),  # noqa: B008  immutable
    ) -> None:
        """A prior for sounds like these, in integers; files that are written from here on need it.

        Raises:
            InputError: less than a segment of sound in all.
        """
        indices = np.concatenate([self.encode(wave) for wave in waves])
        frames = self.segment_frames
        count = len(indices) // frames
        if not count:
            raise InputError(f"waves have {len(indices)} frames in all; a prior needs {frames} at least")
        self._context = self._context_of(indices.shape[1])
        segments = indices[: count * frames].reshape(count, frames, -1)
        self.prior = fit_frame_prior(segments, self._context, settings)

    def compress(self, wave: Float[Tensor, " n"]) -> bytes:
        """A `.cbd` file of a mono sound in [−1, 1] at the model's rate."""
        indices = self.encode(wave)
        header = SoundHeader(self.digest(), self.sample_rate, 1, indices.shape[1], self.codebook_size)
        head, frames, parts = header.pack(), self.segment_frames, []
        for at in range(0, len(indices), frames):
            segment = encode_segment(indices[None, at : at + frames], self._coding)
            parts.append(pack_segment(segment, head, len(parts)))
        return head + b"".join(parts) + pack_end(len(wave), head, len(parts))

    def decompress(self, data: bytes) -> Float32[Tensor, " n"]:
        """The sound in a file.

        Raises:
            DamagedFile: the file is not as it was written.
            WrongModel: it was written with another model or prior.
        """
        contents = sound_container.unpack(data)
        return self.decode(self.indices(data), contents.samples)

    def indices(self, data: bytes) -> Int64[np.ndarray, "t q"]:
        """The indices in a file, exactly as they were written; raises as `decompress`."""
        contents = sound_container.unpack(data)
        header = contents.header
        if header.model != (present := self.digest()):
            raise WrongModel(
                f"the file was written with model {header.model.hex()}; model {present.hex()} was given"
            )
        if header.codebook_size != self.codebook_size or header.channels != 1:
            raise DamagedFile("the file's codebook size or number of channels is not the model's")
        parts = [decode_segment(segment, 1, header.stages, self._coding)[0] for segment in contents.segments]
        return np.concatenate(parts)

    @property
    def segment_frames(self) -> int:
        """Frames of 2 seconds, as many as a segment may have."""
        rate = (
            getattr(self.model.config, "frame_rate", None) or self.sample_rate / self.model.config.hop_length
        )
        return min(max(round(SEGMENT * rate), 1), sound_container.FRAMES)

    def digest(self) -> bytes:
        """What names model and prior in a file: 8 bytes of a SHA-256."""
        hashed = hashlib.sha256(self.kind.encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            hashed.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        if self.prior is not None and self._context is not None:
            hashed.update(
                self.prior.digest() + self._context.codebooks.tobytes() + self._context.steps.tobytes()
            )
        return hashed.digest()[:HASH]

    def save_prior(self, folder: str | Path) -> None:
        """Write the prior and the codewords that it looks at.

        Raises:
            CodecError: there is none.
        """
        if self.prior is None or self._context is None:
            raise CodecError("there is no prior yet: fit_prior makes one")
        self.prior.save(folder)
        arrays = {"codebooks": self._context.codebooks, "steps": self._context.steps}
        files.write_bytes(Path(folder) / CONTEXT, save(arrays))

    def load_prior(self, folder: str | Path) -> None:
        """Take up what `save_prior` wrote.

        Raises:
            InputError: there is none, or it is damaged.
        """
        prior = load_frame_prior(folder)
        try:
            arrays = load((Path(folder) / CONTEXT).read_bytes())
            codebooks, steps = arrays["codebooks"], arrays["steps"]
            if codebooks.ndim != 3 or steps.shape != codebooks.shape[:1]:
                raise ValueError(f"codebooks {codebooks.shape} and steps {steps.shape} don't fit together")
            self._context = ResidualCode(codebooks, steps)
        except (OSError, KeyError, ValueError, IndexError, SafetensorError) as error:
            raise InputError(f"{Path(folder) / CONTEXT} can't be read: {error}") from None
        self.prior = prior

    @property
    def _coding(self) -> SegmentCoding:
        return SegmentCoding(self.codebook_size, self.prior, self._context)

    def _context_of(self, stages: int) -> ResidualCode:
        """The first stages' codewords, on their principal axes where they have many dimensions, as whole numbers."""
        books = self._codewords()[:stages]
        flat = np.concatenate(books)
        if flat.shape[1] > SEEN:
            _, _, axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
            books = [book @ axes[:SEEN].T for book in books]
        step = max(float(np.abs(np.stack(books)).max()), 1e-9) / 127
        whole = np.rint(np.stack(books) / step).astype(np.int8)
        return ResidualCode(whole, np.full(len(books), 64, dtype=np.int32))

    def _codewords(self) -> list[np.ndarray]:
        """Each stage's codewords `[K, D]`."""
        quantizer = self.model.quantizer
        if self.kind == "DacModel":
            tables = [stage.codebook.weight for stage in quantizer.quantizers]
        elif self.kind == "EncodecModel":
            tables = [layer.codebook.embed for layer in quantizer.layers]
        else:
            parts = (
                quantizer.semantic_residual_vector_quantizer,
                quantizer.acoustic_residual_vector_quantizer,
            )
            tables = [layer.codebook.embed for part in parts for layer in part.layers]
        return [table.detach().cpu().double().numpy() for table in tables]

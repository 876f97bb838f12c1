"""The audio tokenizer: sound to frames of indices and back."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor, nn

from codebound import arguments
from codebound.errors import InputError
from codebound.nets.seanet import Reach, Seanet
from codebound.nets.spectral import SpectralDecoder
from codebound.sound import mdct
from codebound.sound.frames import AXES_UNIT, POWER, FrameCode, ResidualCode
from codebound.sound.resampling import HIGHEST_RATE, LOUDEST, LOWEST_RATE, resample, resampled_length
from codebound.tokenizers import pretrained
from codebound.tokenizers.audio_config import MOST_BLOCK, RATES, AudioConfig, NetworkConfig, SeanetConfig
from codebound.tokenizers.audio_streams import (
    LATENT_UNIT,
    Analysis,
    AudioDecoder,
    AudioEncoder,
    NetworkAnalysis,
    TransformAnalysis,
)

DEFAULT_SPEECH = "default-speech"
PACKAGED = Path(__file__).parent / "default_speech"
BLOCK, CONTEXT = 50, 10  # frames
FLOATS = (torch.float16, torch.float32, torch.float64)  # of waves
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # of indices
EXAMPLE = """from codebound.tokenizers import {kind}
tokenizer = {kind}.from_pretrained("path/to/this/folder")
indices = tokenizer.encode(wave, sample_rate)           # floats in [-1, 1], [b, n]
again = tokenizer.decode(indices, samples=n, sample_rate=sample_rate)"""


class AudioTokenizer(nn.Module):
    """Samples to indices and back: by whole numbers and a network behind them, or by a network alone.

    ```
    x [b n] ──MDCT, |·|^(5/8), axes──▶ z [b t D] ──residual codebooks──▶ indices [b t Q]
    indices ──▶ z_q [b t D] ──inverse──▶ samples ──network──▶ x̂ [b n]

    x [b n] ──Seanet──▶ z [b t D] ──residual codebooks──▶ indices [b t Q] ──▶ z_q [b t D] ──Seanet──▶ x̂ [b n]
    ```

    With the transform (`sound.frames`) what `encode` gives depends on nothing but the samples: not on the machine,
    threads, batch or pieces. A `Seanet` computes in floating point: batch and pieces change nothing, but another
    machine may find another index where two codewords are equally near. Of the indices the first q decode, too, at a
    lower rate.

    Args:
        code: transform and codebooks, or for a `Seanet` codebooks alone.
        sample_rate: of the sound inside.
        network: of the decoder; none for the linear inverse alone; a `SeanetConfig` for encoder and decoder.
        block: frames that are decoded at a time (and by a `Seanet` encoded).
        context: frames around them that the decoder looks at; a `Seanet` knows its own.

    Attributes:
        before, after: frames around a block that its samples depend on.
        edges: so many frames at the beginning and at the end of a cut-out piece see silence where the sound has more.
        overlap: frames that a sound has more than hops: 1 where a frame covers two hops.

    Raises:
        InputError: an argument out of its range, or a code of the other kind.
    """

    gain: Tensor
    axes: Tensor
    codebooks: Tensor
    steps: Tensor
    inverse: Tensor

    def __init__(
        self,
        code: FrameCode | ResidualCode,
        *,
        sample_rate: int = 16_000,
        network: NetworkConfig | SeanetConfig | None = None,
        block: int = BLOCK,
        context: int = CONTEXT,
    ) -> None:
        super().__init__()
        self.sample_rate = arguments.whole("sample_rate", sample_rate, least=RATES[0], most=RATES[1])
        self.block = arguments.whole("block", block, most=MOST_BLOCK)
        self.context = arguments.whole("context", context, least=0, most=MOST_BLOCK)
        self.network_config = network
        self.network: SpectralDecoder | Seanet | None = None
        self._arrays = ("codebooks", "steps")
        if isinstance(network, SeanetConfig):
            # A network from samples to samples: a frame for each hop.
            if isinstance(code, FrameCode):
                raise InputError("code has a transform; a Seanet takes a ResidualCode, which has none")
            self.network = network.built(code.dim)
            self.hop, self.overlap = self.network.hop, 0
            self.before, self.after = self.network.decoded
            self.context = max(*self.network.encoded, *self.network.decoded)
            if block < self.context:
                raise InputError(
                    f"block is {block}; this network looks at {self.context} frames: at least so many are accepted"
                )
        else:
            # A transform whose frames cover two hops each, and a network behind its inverse.
            if not isinstance(code, FrameCode):
                raise InputError(
                    "code is a ResidualCode, which only a Seanet can do with: a FrameCode is needed"
                )
            arguments.whole("context", context, least=0, most=block)
            self.hop, self.overlap = code.hop, 1
            self.before, self.after = self.context, self.context + 1
            self._arrays = ("gain", "axes", *self._arrays)
            inverse = torch.from_numpy(mdct.inverse_matrix(code.hop)).float()
            self.register_buffer("inverse", inverse, persistent=False)
        for name in self._arrays:
            self.register_buffer(name, torch.from_numpy(np.array(getattr(code, name))))
        self.register_load_state_dict_post_hook(_forget_code)
        if isinstance(network, NetworkConfig):
            self.network = network.built(self.hop, code.dim)

    @cached_property
    def frame_code(self) -> FrameCode | ResidualCode:
        """Codebooks, with the transform before them if there is one, on the CPU."""
        arrays = {name: getattr(self, name).cpu().numpy() for name in self._arrays}
        return FrameCode(self.hop, **arrays) if "axes" in arrays else ResidualCode(**arrays)

    @property
    def seanet(self) -> Seanet | None:
        """The network, where it encodes, too."""
        return self.network if isinstance(self.network, Seanet) else None

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """K of each stage."""
        stages, size, _ = self.codebooks.shape
        return (size,) * stages

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    @property
    def edges(self) -> Reach:
        """Frames whose indices are others where a sound is cut before or behind them."""
        return Reach(1, 1) if self.seanet is None else self.seanet.encoded

    def kbit(self, stages: int) -> float:
        """Nominal rate of the first `stages` codebooks, in kbit a second: log2 K for each index."""
        return sum(map(math.log2, self.codebook_sizes[:stages])) * self.frame_rate / 1000

    def frames_of(self, samples: int) -> int:
        """How many frames so many samples, at the tokenizer's rate, have."""
        return -(-samples // self.hop) + self.overlap

    def samples_of(self, frames: int) -> int:
        """How many samples so many frames have at most."""
        return (frames - self.overlap) * self.hop

    def forward(self, z: Float[Tensor, "b t d"]) -> Float[Tensor, "b n"]:
        """Samples in [−1, 1], more or less, of latents as the frame code gives them; n = `samples_of(t)`."""
        if isinstance(self.network, Seanet):
            return self.network.decode(z / LATENT_UNIT)
        x = self.linear(z)
        return x if self.network is None else self.network(x, z / LATENT_UNIT)

    def linear(self, z: Float[Tensor, "b t d"]) -> Float[Tensor, "b n"]:
        """Axes, companding and transform undone."""
        y = z @ (self.axes.to(z.dtype).T / AXES_UNIT)
        x = torch.sign(y) * y.abs().pow(1 / POWER) / self.gain
        frames = x @ self.inverse.to(z.dtype)
        return (frames[:, :-1, self.hop :] + frames[:, 1:, : self.hop]).flatten(1)

    @torch.no_grad()
    def encode(
        self,
        wave: Float[Tensor, "b n"],
        sample_rate: int | None = None,
        *,
        stages: int | None = None,
        beam: int = 1,
    ) -> Int64[Tensor, "b t q"]:
        """Indices of sound in [−1, 1], t = `frames_of` its samples inside; of the first `stages` codebooks.

        Args:
            sample_rate: of the wave; the tokenizer's own if not given.
            beam: partial sums that are kept in the search: better, and slower.

        Raises:
            InputError: no tensor of these, no samples, or some that are not finite; a value out of its range.
        """
        _check_tensor("wave", wave)
        if wave.ndim != 2 or wave.dtype not in FLOATS or 0 in wave.shape:
            accepted = "float16, float32 or float64 [b, n], b and n > 0"
            raise InputError(f"wave must be {accepted}; got {wave.dtype} {list(wave.shape)}")
        rows = []
        for row in wave.detach().cpu().numpy():
            encoder = self.encoder(sample_rate, stages=stages, beam=beam)
            rows.append(np.concatenate([encoder.push(row), encoder.flush()]))
        return torch.from_numpy(np.stack(rows)).to(wave.device)

    @torch.no_grad()
    def decode(
        self,
        indices: Int[Tensor, "b t q"],
        *,
        samples: int | None = None,
        sample_rate: int | None = None,
    ) -> Float32[Tensor, "b n"]:
        """Sound in [−1, 1].

        Args:
            samples: how many there are; `samples_of(t)`, at the tokenizer's rate, if not given.
            sample_rate: of what comes out; the tokenizer's own if not given.

        Raises:
            InputError: indices of another shape or type, or out of range; a rate that is not accepted; samples that so
                many frames are not the frames of.
        """
        self.check_indices(indices)
        rate = self.sample_rate if sample_rate is None else sample_rate
        arguments.whole("sample_rate", rate, least=LOWEST_RATE, most=HIGHEST_RATE)
        inside = self.samples_of(indices.shape[1])
        if samples is not None:
            arguments.whole("samples", samples)
            needed = resampled_length(samples, rate, self.sample_rate)
            if self.frames_of(needed) != indices.shape[1]:
                raise InputError(
                    f"samples is {samples}; they don't have {indices.shape[1]} frames at {rate} a second"
                )
            inside = needed
        rows = []
        for row in indices.cpu().numpy():
            decoder = self.decoder()
            decoded = np.concatenate([decoder.push(row), decoder.flush()])[:inside]
            if rate != self.sample_rate:
                whole = np.clip(np.rint(decoded.astype(np.float64) * LOUDEST), -LOUDEST, LOUDEST - 1)
                decoded = (resample(whole, self.sample_rate, rate) / LOUDEST).astype(np.float32)
            rows.append(decoded[: samples or len(decoded)])
        return torch.from_numpy(np.stack(rows)).to(indices.device)

    def encoder(
        self, sample_rate: int | None = None, *, stages: int | None = None, beam: int = 1
    ) -> AudioEncoder:
        """What encodes a channel while it comes."""
        return AudioEncoder(self, self.sample_rate if sample_rate is None else sample_rate, stages, beam)

    def decoder(self) -> AudioDecoder:
        """What decodes a channel while it comes."""
        return AudioDecoder(self)

    def analysis(self) -> Analysis:
        """What makes latents of whole samples while they come."""
        code = self.frame_code
        return TransformAnalysis(code) if isinstance(code, FrameCode) else NetworkAnalysis(self)

    @torch.no_grad()
    def decode_block(self, latents: Float32[np.ndarray, "t d"]) -> Float32[np.ndarray, " n"]:
        """The samples of one block: its frames, `before` and `after` them those that it looks at; always alone, so that
        rounding does not depend on a batch; in float32 whatever precision is around it."""
        device = self.codebooks.device
        with torch.autocast(device.type, enabled=False):
            x = self(torch.from_numpy(latents)[None].to(device))[0]
        return x[self.before * self.hop : (self.before + self.block) * self.hop].cpu().numpy()

    def check_indices(self, indices: Tensor) -> None:
        """Refuse what this tokenizer's `encode` doesn't give. Raises `InputError`."""
        _check_tensor("indices", indices)
        stages, size, _ = self.codebooks.shape
        if indices.ndim != 3 or not 1 <= indices.shape[2] <= stages or 0 in indices.shape:
            raise InputError(f"indices must have shape [b, t, q], q <= {stages}; got {list(indices.shape)}")
        if indices.dtype not in INTEGERS or int(indices.min()) < 0 or int(indices.max()) >= size:
            raise InputError(f"indices must be integers in 0 … {size - 1}")

    def config(self) -> dict[str, Any]:
        """A JSON-able description from which `from_config` builds the same tokenizer, without its weights."""
        stages, size, dim = self.codebooks.shape
        return {
            "sample_rate": self.sample_rate,
            "hop": self.hop,
            "dim": dim,
            "stages": stages,
            "codebook_size": size,
            "block": self.block,
            "context": self.context,
            "network": None if self.network_config is None else self.network_config.model_dump(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AudioTokenizer:
        """The tokenizer that a description describes, with fresh weights and empty codebooks.

        Raises:
            InputError: an unknown field, a missing one, or a value that is not accepted.
        """
        made = pretrained.described(AudioConfig, config)
        books = np.zeros((made.stages, made.codebook_size, made.dim), dtype=np.int8)
        steps = np.ones(made.stages, dtype=np.int32)
        if isinstance(made.network, SeanetConfig):
            code = ResidualCode(books, steps)
        else:
            axes = np.zeros((made.hop, made.dim), dtype=np.int16)
            code = FrameCode(made.hop, np.ones(made.hop, dtype=np.float32), axes, books, steps)
        return cls(
            code, sample_rate=made.sample_rate, network=made.network, block=made.block, context=made.context
        )

    def code_digest(self) -> str:
        """What names transform, or encoder, and codebooks, whatever decoder there is: 16 hexadecimal digits of a
        SHA-256."""
        named = ("sample_rate", "hop") if self.seanet is None else ("sample_rate", "hop", "network")
        described = {name: value for name, value in self.config().items() if name in named}
        tensors = {name: getattr(self, name) for name in self._arrays}
        if self.seanet is not None:
            tensors |= {f"down.{name}": tensor for name, tensor in self.seanet.down.state_dict().items()}
        return pretrained.digest(described, tensors)

    def take_code(self, code: FrameCode | ResidualCode) -> None:
        """Put another code of the same kind and sizes in the place of this one.

        Raises:
            InputError: another kind or size.
        """
        fits = isinstance(code, FrameCode) == (self.seanet is None)
        if isinstance(code, FrameCode) and code.hop != self.hop:
            fits = False
        if not fits or code.codebooks.shape != tuple(self.codebooks.shape):
            raise InputError(
                f"code is a {type(code).__name__} with codebooks {code.codebooks.shape}; a "
                f"{type(self.frame_code).__name__} with {tuple(self.codebooks.shape)} is accepted"
            )
        for name in self._arrays:
            getattr(self, name).copy_(torch.from_numpy(np.array(getattr(code, name))))
        _forget_code(self)

    def save_pretrained(self, folder: str | Path, *, card: str = "") -> None:
        """Write `config.json`, `model.safetensors`, `README.md` (the model card) and `manifest.json` (SHA-256).

        Weights of the network are written as 16-bit floats, and rounded to these here: what is saved is at hand.

        Args:
            card: what the model card says below the description of the model: data, training, figures.

        Raises:
            InputError: a folder that can't be written.
        """
        state = {
            name: tensor.half() if name.startswith("network.") else tensor
            for name, tensor in self.state_dict().items()
        }
        pretrained.save(Path(folder), "AudioTokenizer", self.config(), state, card, EXAMPLE)
        self.load_state_dict(state)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> AudioTokenizer:
        """The tokenizer of a folder that `save_pretrained` wrote, or of the Hugging Face hub; in eval, on the CPU.

        Args:
            source: a folder, `"owner/name"` on the hub, or `"default-speech"`: the one in the package.
            revision: branch, tag or commit on the hub.

        Raises:
            InputError: no such folder or repository, or files that do not fit together.
            DamagedModel: a file is not the one whose SHA-256 the manifest holds.
        """
        place = audio_folder(source)
        config, state = pretrained.load(place, "AudioTokenizer", revision)
        tokenizer = cls.from_config(config)
        pretrained.take_over(tokenizer, state, str(source))
        return tokenizer.eval()


def _check_tensor(name: str, value: object) -> None:
    """Refuse what is no tensor."""
    if not isinstance(value, Tensor):
        raise InputError(f"{name} must be a tensor; got {type(value).__name__}")


def _forget_code(tokenizer: nn.Module, keys: object = None) -> None:
    """The frame code is made anew of the present buffers."""
    tokenizer.__dict__.pop("frame_code", None)


def audio_folder(source: str | Path) -> str | Path:
    """The folder of a model on this machine; `"default-speech"` is the one in the package."""
    return PACKAGED if str(source) in (DEFAULT_SPEECH, pretrained.DEFAULT_NAME) else source

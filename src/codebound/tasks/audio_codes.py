"""Where an audio tokenizer's indices come from in training: codebooks that stay, or that learn with their encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from codebound.engine.task import AfterStep
from codebound.quantize.base import Quantized
from codebound.quantize.init import KMeans
from codebound.quantize.residual import Residual
from codebound.quantize.update import EMA
from codebound.quantize.vector import VectorQuantizer
from codebound.sound.frames import FrameCode, FrameSplitter, ResidualCode
from codebound.sound.resampling import LOUDEST
from codebound.tasks.tokenizer import update_codebooks
from codebound.tokenizers.audio import AudioTokenizer
from codebound.tokenizers.audio_fitting import FrameCodeSettings, by_likeness, fit_frame_code, rounded
from codebound.tokenizers.audio_streams import LATENT_UNIT

if TYPE_CHECKING:
    from codebound.tasks.audio import AudioOptimization


class Coded(NamedTuple):
    """Crops after the codebooks.

    Attributes:
        z: their latents, as the tokenizer's `forward` takes them.
        loss: what codebooks and encoder learn from, besides the sound.
        values: figures for the log.
        record, usable: as in `StepLosses`.
    """

    z: Float[Tensor, "b t d"]
    loss: Tensor
    values: Mapping[str, Tensor]
    record: Any = None
    usable: Tensor | None = None


class AudioCodes(ABC):
    """Codes of an audio tokenizer in training.

    Attributes:
        takes_depths: by how many stages a crop is coded is drawn by the task; otherwise the codes draw it themselves.
        modules: what has weights or state besides the tokenizer.
    """

    takes_depths: ClassVar[bool]
    modules: Mapping[str, nn.Module]

    @abstractmethod
    def begin(self, crops: Iterator[Float[Tensor, "b n"]], devices: int) -> None:
        """Codebooks, and a transform, from crops; before the first step."""

    @abstractmethod
    def coded(self, crops: Float[Tensor, "b n"], depths: Int64[Tensor, " b"]) -> Coded:
        """Latents of whole samples after the codebooks; `depths` count where `takes_depths` says so."""

    @abstractmethod
    def after_step(self, records: Sequence[Any]) -> AfterStep:
        """What moves when all optimizers have stepped."""

    @abstractmethod
    def settle(self) -> None:
        """The tokenizer takes the codebooks as they stand."""


class FixedCodes(AudioCodes):
    """A transform and codebooks that are fitted before the first step, and stay.

    Args:
        tokenizer: with a transform.
        settings: of which `fit_frames` counts here.
        code: how both are fitted.
        seed: of k-means.
    """

    takes_depths = True

    def __init__(
        self, tokenizer: AudioTokenizer, settings: AudioOptimization, code: FrameCodeSettings, seed: int
    ) -> None:
        self._tokenizer, self._settings, self._code, self._seed = tokenizer, settings, code, seed
        self.modules: Mapping[str, nn.Module] = {}

    def begin(self, crops: Iterator[Float[Tensor, "b n"]], devices: int) -> None:
        """Fit to frames of crops; every device fits to its own, the first one's count."""
        frames: list[np.ndarray] = []
        while sum(map(len, frames)) < self._settings.fit_frames:
            for crop in next(crops).cpu().numpy().astype(np.float64):
                frames.append(FrameSplitter(self._tokenizer.hop).push(crop))
        self._tokenizer.take_code(fit_frame_code(np.concatenate(frames), self._code, self._seed))

    def coded(self, crops: Float[Tensor, "b n"], depths: Int64[Tensor, " b"]) -> Coded:
        """Latents of whole samples after the codebooks, each crop by so many stages."""
        code, rows = self._tokenizer.frame_code, []
        assert isinstance(code, FrameCode)
        for crop, depth in zip(crops.cpu().numpy().astype(np.float64), depths.tolist(), strict=True):
            splitter = FrameSplitter(code.hop)
            frames = np.concatenate([splitter.push(crop), splitter.flush()])
            rows.append(code.decode(code.search(code.latents(frames), depth)))
        z = torch.from_numpy(np.stack(rows)).to(crops.device, torch.float32)
        return Coded(z, torch.zeros((), device=z.device), {})

    def after_step(self, records: Sequence[Any]) -> AfterStep:
        """Nothing moves."""
        return AfterStep({})

    def settle(self) -> None:
        """The tokenizer has its codebooks already."""


class LearnedCodes(AudioCodes):
    """Codebooks of floats that follow the latents of a `Seanet` (EMA), beside the whole ones that it is saved with.

    Args:
        tokenizer: with a `Seanet`.
        settings: of which `fit_frames`, `full_depth` and `commitment` count here.
        code: sizes, and the iterations of k-means that codebooks begin with.
        seed: of what is drawn.
    """

    takes_depths = False

    def __init__(
        self, tokenizer: AudioTokenizer, settings: AudioOptimization, code: FrameCodeSettings, seed: int
    ) -> None:
        self._tokenizer, self._settings = tokenizer, settings
        stages, size, dim = tokenizer.codebooks.shape
        self.quantizer = Residual(
            [
                VectorQuantizer(
                    dim,
                    size,
                    update=EMA(),
                    init=KMeans(code.iterations, "sample"),
                    loss_weights={"commitment": settings.commitment},
                )
                for _ in range(stages)
            ],
            depth_dropout=1 - settings.full_depth,
            seed=seed,
        )
        self.modules: Mapping[str, nn.Module] = {"quantizer": self.quantizer}

    @torch.no_grad()
    def begin(self, crops: Iterator[Float[Tensor, "b n"]], devices: int) -> None:
        """Codebooks begin from latents of crops, joined over the devices."""
        latents, missing = [], max(self._settings.fit_frames, 2 * self._tokenizer.codebook_sizes[0])
        while missing > 0:
            latents.append(self._encoded(next(crops)))
            missing -= devices * latents[-1].shape[:-1].numel()
        self.quantizer.init_(torch.cat(latents).flatten(0, 1))
        self.settle()

    def coded(self, crops: Float[Tensor, "b n"], depths: Int64[Tensor, " b"]) -> Coded:
        """Latents after the codebooks; how many stages code a crop is drawn by the quantizer."""
        found = self.quantizer(self._encoded(crops))
        values = {"codebooks": found.loss}
        return Coded(found.z_q * LATENT_UNIT, found.loss, values, found, (found.indices[..., 0] >= 0).all())

    def after_step(self, records: Sequence[Quantized]) -> AfterStep:
        """Codebooks follow their latents."""
        return update_codebooks(self.quantizer, records)

    @torch.no_grad()
    def settle(self) -> None:
        """The tokenizer takes the codebooks as whole numbers, in an order in which neighbours are alike."""
        books, steps = [], []
        for codebook in self.quantizer.codebooks():
            assert codebook is not None
            words = codebook.codewords().double().cpu().numpy() * LATENT_UNIT
            book, step = rounded(by_likeness(words))
            books.append(book)
            steps.append(step)
        self._tokenizer.take_code(ResidualCode(np.stack(books), np.array(steps, dtype=np.int32)))

    def _encoded(self, crops: Float[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        """Latents as the quantizer sees them."""
        network = self._tokenizer.seanet
        assert network is not None
        return network.encode(crops / LOUDEST)

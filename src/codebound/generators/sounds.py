"""A prior over an audio tokenizer's frames: p(indices) = ∏ p(index | earlier frames, earlier stages of its frame)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from codebound import arguments
from codebound.errors import InputError
from codebound.generators.drawing import Draw, check_seed, uniforms
from codebound.generators.evaluating import in_eval
from codebound.nets.transformer import KeyValueCache, Rotation, Transformer
from codebound.sound.frames import MOST_DIM, StagedCode
from codebound.tokenizers import pretrained
from codebound.tokenizers.audio import LATENT_UNIT
from codebound.tokenizers.audio_config import MOST_CODEWORDS, MOST_STAGES

AT_ONCE = 8  # windows that are judged at once
LARGEST, DEEPEST = 4096, 256
Width = Annotated[int, Field(ge=1, le=LARGEST)]
Depth = Annotated[int, Field(ge=1, le=DEEPEST)]
Window = Annotated[int, Field(ge=2, le=LARGEST, multiple_of=2)]  # frames
Dropout = Annotated[float, Field(ge=0, lt=1)]
EXAMPLE = """from codebound.generators import {kind}
prior = {kind}.from_pretrained("path/to/this/folder")
indices = prior.sample(250, count=2)                    # [b, t, q], for the decoder of its tokenizer
bits = prior.bits(indices[0])                           # [t, q]"""


class SoundPrior(nn.Module):
    """How likely frames of indices are, and new ones.

    ```
    latents of earlier frames ──▶ transformer over frames ──▶ h_t ─┐
    sum of the frame's earlier stages, that of the last frame ─────┴─▶ a network for each stage ──▶ logits of K
    ```

    What stands before an index is seen as the sums of its codewords, so nothing needs to be learned of which index
    means what. Attention, causal and by distances, sees a window of frames at most, so that memory does not grow with
    the sound: past the window it begins anew with the newer half of it. The same rule judges and samples.

    Args:
        stages, codebook_size, dim: of the tokenizer's codebooks.
        width, depth, heads, dropout: of the transformer.
        hidden: units of each stage's network.
        window: frames that are seen at most; an even number.
        tokenizer: what names the codes (`AudioTokenizer.code_digest`), so that others are refused.

    Raises:
        InputError: an argument out of its range.
    """

    words: Tensor

    def __init__(
        self,
        stages: int,
        codebook_size: int,
        dim: int,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        hidden: int = 192,
        window: int = 128,
        dropout: float = 0.0,
        tokenizer: str = "",
    ) -> None:
        super().__init__()
        for name, value, least, most in (
            ("stages", stages, 1, MOST_STAGES), ("codebook_size", codebook_size, 2, MOST_CODEWORDS),
            ("dim", dim, 1, MOST_DIM), ("width", width, 1, LARGEST), ("depth", depth, 1, DEEPEST),
            ("heads", heads, 1, LARGEST), ("hidden", hidden, 1, LARGEST), ("window", window, 2, LARGEST),
        ):  # fmt: skip
            arguments.whole(name, value, least=least, most=most)
        if window % 2:
            raise InputError(f"window is {window}; an even number is accepted: half of it is seen again")
        self.window, self.hidden, self.dropout, self.tokenizer = window, hidden, dropout, tokenizer
        self.body = Transformer(width, depth, heads, dropout)
        self.register_buffer("words", torch.zeros(stages, codebook_size, dim))
        self.before, self.start = nn.Linear(dim, width), nn.Parameter(torch.zeros(width))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width + 2 * dim, hidden), nn.GELU(), nn.Linear(hidden, codebook_size))
            for _ in range(stages)
        )

        # At first all indices are equally likely.
        for head in self.heads:
            for parameter in head[-1].parameters():  # pyright: ignore[reportIndexIssue]
                nn.init.zeros_(parameter)

    @classmethod
    def of(cls, code: StagedCode, **options: Any) -> SoundPrior:
        """An untrained prior of these codebooks."""
        made = cls(*code.codebooks.shape, **options)
        words = code.codebooks.astype(np.float64) * code.steps[:, None, None] / LATENT_UNIT
        made.words.copy_(torch.from_numpy(words))
        return made

    # The network.

    def sums(self, indices: Int64[Tensor, "b t q"]) -> Float[Tensor, "b t q1 d"]:
        """What is known of each frame after 0, 1, … and all of its stages, of size 1 more or less."""
        stages = torch.arange(indices.shape[2], device=indices.device)
        words = self.words[stages, indices]
        return nn.functional.pad(words.cumsum(2), (0, 0, 1, 0))

    def forward(self, sums: Float[Tensor, "b t q1 d"]) -> Float[Tensor, "b t w"]:
        """What the transformer knows of each frame from those before it."""
        x = self._input(sums[:, :-1, -1])
        return self.body(x, self._rotation(x.shape[1]), causal=True)

    def logits(
        self, stage: int, h: Float[Tensor, "*b w"], own: Float[Tensor, "*b d"], last: Float[Tensor, "*b d"]
    ) -> Float[Tensor, "*b k"]:
        """Of a stage's index, by what is known of its frame and of the last one after the stages before it."""
        return self.heads[stage](torch.cat([h, own, last], dim=-1))

    def costs(self, indices: Int64[Tensor, "b t q"]) -> Float[Tensor, "b t q"]:
        """−ln of the probability of each index of windows, in nats."""
        sums = self.sums(indices)
        h, last = self(sums), nn.functional.pad(sums[:, :-1], (0, 0, 0, 0, 1, 0))
        parts = []
        for stage in range(indices.shape[2]):
            logits = self.logits(stage, h, sums[:, :, stage], last[:, :, stage]).float()
            parts.append(
                nn.functional.cross_entropy(logits.movedim(-1, 1), indices[..., stage], reduction="none")
            )
        return torch.stack(parts, dim=-1)

    def _input(self, latents: Float[Tensor, "b m d"]) -> Float[Tensor, "b n w"]:
        """A first frame of which nothing is known, and one behind each of these."""
        start = self.start.expand(len(latents), 1, -1)
        return torch.cat([start, self.before(latents)], dim=1)

    def _rotation(self, frames: int) -> Rotation:
        at = torch.arange(frames, device=self.start.device)
        return self.body.rotation(torch.stack([at, at], dim=1))

    # Likelihood.

    @torch.no_grad()
    @in_eval
    def bits(self, indices: Int64[Tensor, "t q"]) -> Float[Tensor, "t q"]:
        """−log₂ of the probability of each index of a sound of any length: exact, in memory that a window decides.

        The first window is judged from its beginning; every later frame sees half a window to a whole one before it.

        Raises:
            InputError: no frame, or indices of other stages or out of range.
        """
        self.check(indices)
        half, t = self.window // 2, len(indices)
        found = [self.costs(indices[None, : self.window])[0]]

        # Whole windows some at a time, then what is left.
        starts = list(range(half, t - half, half))
        whole = [start for start in starts if start + self.window <= t]
        for at in range(0, len(whole), AT_ONCE):
            some = torch.stack([indices[start : start + self.window] for start in whole[at : at + AT_ONCE]])
            found.append(self.costs(some)[:, half:].flatten(0, 1))
        found += [self.costs(indices[None, start:])[0, half:] for start in starts[len(whole) :]]
        return torch.cat(found) / math.log(2)

    def check(self, indices: Tensor) -> None:
        """Refuse what are no indices of this prior's codebooks. Raises `InputError`."""
        stages, size, _ = self.words.shape
        if not isinstance(indices, Tensor):
            raise InputError(f"indices must be a tensor of int64; got {type(indices).__name__}")
        if indices.ndim != 2 or indices.shape[1] != stages or not len(indices):
            raise InputError(f"indices must have shape [t, {stages}], t > 0; got {list(indices.shape)}")
        if indices.dtype != torch.int64 or int(indices.min()) < 0 or int(indices.max()) >= size:
            raise InputError(f"indices must be int64 in 0 … {size - 1}")

    # Samples.

    @torch.no_grad()
    @in_eval
    def sample(
        self,
        frames: int,
        *,
        count: int = 1,
        known: Int64[Tensor, "t q"] | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int = 0,
        first: int = 0,
    ) -> Int64[Tensor, "count frames q"]:
        """New frames of indices, of sounds that begin here, or behind the known frames.

        A sample is a function of (seed, its number, the known frames, settings); more frames change none before them.

        Args:
            frames: new ones of each sample.
            known: of the sound that goes on.
            temperature, top_k, top_p: as `Draw`.
            first: the number of the first sample.

        Raises:
            InputError: a number out of range, or known frames that `bits` refuses.
        """
        arguments.whole("frames", frames)
        arguments.whole("count", count)
        check_seed(seed)
        draw = Draw(temperature, top_k, top_p)
        draw.check()
        stages, device = self.words.shape[0], self.start.device
        if known is not None:
            self.check(known)
        given = torch.zeros(0, stages, dtype=torch.int64) if known is None else known
        made = given.to(device)[None].expand(count, -1, -1)
        numbers = uniforms(seed, first, count, frames * stages).to(device).unflatten(1, (frames, stages))

        # Frame by frame; where the window is full, or at first, what is seen before it is gone through once.
        rotation, half = self._rotation(self.window), self.window // 2
        memory: KeyValueCache | None = None
        for number in range(frames):
            t = made.shape[1]
            if memory is None or memory.length == self.window:
                begin = 0 if t < self.window else (t - half) // half * half
                sums = self.sums(made[:, begin:])
                memory = self.body.cache(count, self.window)
                for x in self._input(sums[:, :-1, -1]).split(1, dim=1)[: t - begin]:
                    self._next(x, rotation, memory)
                last = sums[:, -1] if t > begin else sums.new_zeros(count, stages + 1, self.words.shape[2])
            x = self._input(last[:, None, -1])[:, 1:] if memory.length else self._input(last[:, :0])
            h = self._next(x, rotation, memory)
            drawn, last = self._frame(h, last, draw, numbers[:, number])
            made = torch.cat([made, drawn[:, None]], dim=1)
        return made[:, len(given) :]

    def _next(self, x: Float[Tensor, "b 1 w"], rotation: Rotation, memory: KeyValueCache) -> Tensor:
        """What the transformer knows of the next frame."""
        at = memory.length
        return self.body(x, rotation.at(at, at + 1), causal=True, cache=memory)[:, 0]

    def _frame(
        self,
        h: Float[Tensor, "b w"],
        last: Float[Tensor, "b q1 d"],
        draw: Draw,
        numbers: Float[Tensor, "b q"],
    ) -> tuple[Int64[Tensor, "b q"], Float[Tensor, "b q1 d"]]:
        """One frame, stage after stage, and its sums."""
        own, indices = [torch.zeros_like(last[:, 0])], []
        for stage in range(len(self.heads)):
            index, _ = draw.tokens(self.logits(stage, h, own[-1], last[:, stage]).float(), numbers[:, stage])
            indices.append(index)
            own.append(own[-1] + self.words[stage, index])
        return torch.stack(indices, dim=1), torch.stack(own, dim=1)

    # A folder.

    def config(self) -> dict[str, Any]:
        """A JSON-able description from which `from_config` builds the same prior, without its weights."""
        stages, size, dim = self.words.shape
        return {
            "stages": stages, "codebook_size": size, "dim": dim, "width": self.body.width,
            "depth": len(self.body.blocks), "heads": self.body.heads, "hidden": self.hidden, "window": self.window,
            "dropout": self.dropout, "tokenizer": self.tokenizer,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SoundPrior:
        """The prior that a description describes, with fresh weights.

        Raises:
            InputError: an unknown field, a missing one, or a value that is not accepted.
        """
        return cls(**pretrained.described(_Config, config).model_dump())

    def save_pretrained(self, folder: str | Path, *, card: str = "") -> None:
        """Write `config.json`, `model.safetensors`, `README.md` (the model card) and `manifest.json` (SHA-256).

        Raises:
            InputError: a folder that can't be written.
        """
        pretrained.save(Path(folder), "SoundPrior", self.config(), self.state_dict(), card, EXAMPLE)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> SoundPrior:
        """The prior of a folder that `save_pretrained` wrote, or of the Hugging Face hub; in eval, on the CPU.

        Raises:
            InputError: no such folder, a model of another kind, or files that do not fit together.
            DamagedModel: a file is not the one whose SHA-256 the manifest holds.
        """
        config, state = pretrained.load(source, "SoundPrior", revision)
        prior = cls.from_config(config)
        pretrained.take_over(prior, state, str(source))
        return prior.eval()

    def check_tokenizer(self, digest: str) -> None:
        """Refuse indices of other codes than those of training.

        Raises:
            InputError: so; both hashes are named.
        """
        if self.tokenizer and digest != self.tokenizer:
            raise InputError(
                f"the prior is of the codes {self.tokenizer}, not of {digest}: its indices mean other things"
            )


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    stages: int = Field(ge=1, le=MOST_STAGES)
    codebook_size: int = Field(ge=2, le=MOST_CODEWORDS)
    dim: int = Field(ge=1, le=MOST_DIM)
    width: Width
    depth: Depth
    heads: Width
    hidden: Width
    window: Window
    dropout: Dropout
    tokenizer: str

"""Frames of samples to indices in whole numbers: transform, companding, principal axes, residual codebooks.

    X  = mdct of 2N samples                       whole numbers (`mdct`)
    y  = sign(X) · |g X|^(5/8)                    rounded; square roots and products of IEEE 754 are the same everywhere
    z  = ⌊y V / 2^10⌉                             V whole, so the sum is exact in float64
    stage q:  i_q = argmax 2 r·c − |c|²,  r ← r − step_q · c,  c of whole numbers in −127 … 127

Companding by a power below one lets quiet components count (as in ITU-T G.711 and MP3's quantizer, power 3/4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int8, Int16, Int32, Int64

from codebound.errors import InputError
from codebound.sound import mdct

POWER = 5 / 8
COMPANDED = (1 << 14) - 1  # the largest companded coefficient
AXES_UNIT = 1 << 10  # of V
LATENT = (1 << 17) - 1  # the largest |z|
NEAR = 1023  # the largest part of a residual, in steps, that a search looks at: 64 · 1023 · 127 < 2^23
MOST_DIM = 128  # of a latent: 128 · 1023 · 127 < 2^24
MOST_STEPS = 1 << 15  # in sum: residuals stay below 2^17 + 127 · 2^15 < 2^23, and 128 squares below 2^53
CHUNK = 32  # frames that are searched at once: so few that their scores stay in a core's cache


class StagedCode:
    """Residual codebooks of whole numbers: the search for indices, and the latents that these stand for.

    Attributes:
        codebooks: c of each stage, in steps.
        steps: of each stage, in units of z.
    """

    codebooks: Int8[np.ndarray, "q k d"]
    steps: Int32[np.ndarray, " q"]

    @property
    def stages(self) -> int:
        return len(self.codebooks)

    @property
    def dim(self) -> int:
        return self.codebooks.shape[2]

    def search(
        self, latents: Float32[np.ndarray, "n d"], stages: int | None = None, beam: int = 1
    ) -> Int64[np.ndarray, "n q"]:
        """Indices of the first `stages` codebooks; of several partial sums the best `beam` are kept at each stage."""
        stages = self.stages if stages is None else stages
        parts = [latents[at : at + CHUNK] for at in range(0, len(latents), CHUNK)]
        found = [self._search(part, stages, beam) for part in parts]
        return np.concatenate(found) if found else np.zeros((0, stages), dtype=np.int64)

    def decode(self, indices: Int[np.ndarray, "n q"]) -> Int32[np.ndarray, "n d"]:
        """The latent that indices stand for: Σ step · c, a whole number."""
        z = np.zeros((len(indices), self.dim), dtype=np.int32)
        for stage in range(indices.shape[1]):
            z += self.codebooks[stage][indices[:, stage]].astype(np.int32) * self.steps[stage]
        return z

    def near(self, stage: int, left: Float32[np.ndarray, "m d"]) -> Float32[np.ndarray, "m d"]:
        """What is left in whole steps: its products with codewords are below 2^24 in sum, so that float32 holds them
        exactly, in any order."""
        return np.clip(np.rint(left / np.float32(self.steps[stage])), -NEAR, NEAR)

    def words(self, stage: int, indices: Int64[np.ndarray, "*b"]) -> Float32[np.ndarray, "*b d"]:
        """step · c."""
        return np.float32(self.steps[stage]) * self.tables[stage][0][indices]

    @cached_property
    def tables(self) -> list[tuple[Float32[np.ndarray, "k d"], Float32[np.ndarray, " k"]]]:
        """Codewords in steps, and half of their squared lengths."""
        books = self.codebooks.astype(np.float32)
        return [(book, np.einsum("kd,kd->k", book, book) / 2) for book in books]

    def _search(self, z: Float32[np.ndarray, "n d"], stages: int, beam: int) -> Int64[np.ndarray, "n q"]:
        # Each frame begins with one partial sum, the empty one.
        n, dim = z.shape
        rows, left = np.arange(n)[:, None], z[:, None]
        paths = np.zeros((n, 1, 0), dtype=np.int64)
        for stage in range(stages):
            # The largest r·c − |c|²/2 has the least error.
            book, half = self.tables[stage]
            scores = self.near(stage, left.reshape(-1, dim)) @ book.T
            scores -= half
            candidates = best(scores, min(beam, len(book))).reshape(n, left.shape[1], -1)

            # Of all continuations those stay that leave least; of equal ones the first.
            rest = (left[:, :, None] - self.words(stage, candidates)).reshape(n, -1, dim)
            places = np.zeros((n, 1), dtype=np.int64)
            if rest.shape[1] > 1:
                places = np.argsort(squares(rest), axis=1, kind="stable")[:, :beam]
            chosen = candidates.reshape(n, -1)[rows, places]
            before = paths[rows, places // candidates.shape[2]]
            left, paths = rest[rows, places], np.concatenate([before, chosen[:, :, None]], axis=2)
        return paths[:, 0]


@dataclass(frozen=True, eq=False)
class ResidualCode(StagedCode):
    """Codebooks for latents of any origin, as whole numbers.

    Args:
        codebooks, steps: as `StagedCode`.

    Raises:
        InputError: arrays whose shapes or values don't fit.
    """

    codebooks: Int8[np.ndarray, "q k d"]
    steps: Int32[np.ndarray, " q"]

    def __post_init__(self) -> None:
        _check_stages(self)


@dataclass(frozen=True, eq=False)
class FrameCode(StagedCode):
    """What turns samples into indices and indices into latents.

    Args:
        hop: N, samples between frames.
        gain: g, of each coefficient.
        axes: V, in units of 2^−10.
        codebooks, steps: as `StagedCode`.

    Raises:
        InputError: arrays whose shapes or values don't fit.
    """

    hop: int
    gain: Float32[np.ndarray, " h"]
    axes: Int16[np.ndarray, "h d"]
    codebooks: Int8[np.ndarray, "q k d"]
    steps: Int32[np.ndarray, " q"]

    def __post_init__(self) -> None:
        _check_stages(self)
        if self.gain.shape != (self.hop,) or self.axes.shape != (self.hop, self.dim):
            raise InputError(
                f"a frame code's arrays don't fit together: gain {self.gain.shape}, axes {self.axes.shape}, codebooks "
                f"{self.codebooks.shape} for hop {self.hop}"
            )
        if not np.isfinite(self.gain).all() or self.gain.min() <= 0:
            raise InputError("a frame code has gains that are not positive")

    def latents(self, frames: Float64[np.ndarray, "n w"]) -> Float32[np.ndarray, "n d"]:
        """z of frames of 2N whole samples."""
        y = compand(mdct.forward(frames, self.hop) * self.gain)
        return whole_latents(y @ self.axes.astype(np.float64) / AXES_UNIT)


def _check_stages(code: StagedCode) -> None:
    """Refuse codebooks and steps that no search takes. Raises `InputError`."""
    fits = code.codebooks.ndim == 3 and code.steps.shape == code.codebooks.shape[:1]
    if not fits or not 1 <= code.dim <= MOST_DIM or code.codebooks.shape[1] < 2 or not code.stages:
        raise InputError(
            f"a code's arrays don't fit together: codebooks {code.codebooks.shape}, steps {code.steps.shape}; accepted "
            f"are [q, k, d], k > 1 and d up to {MOST_DIM}, and [q]"
        )
    if code.steps.min() < 1:
        raise InputError("a code has steps below 1")
    if (most := int(code.steps.sum(dtype=np.int64))) > MOST_STEPS:
        raise InputError(f"a code's steps are {most} in sum; up to {MOST_STEPS} are accepted")


def whole_latents(z: Float64[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Latents as a search takes them: rounded, and cut to what codebooks reach."""
    return np.clip(np.rint(z), -LATENT, LATENT).astype(np.float32)


def compand(x: Float64[np.ndarray, "*b"]) -> Float64[np.ndarray, "*b"]:
    """sign(x) · |x|^(5/8), rounded, by square roots and products alone."""
    root = np.sqrt(np.abs(x))
    return np.clip(np.rint(np.copysign(root * np.sqrt(np.sqrt(root)), x)), -COMPANDED, COMPANDED)


def squares(left: Float32[np.ndarray, "n b d"]) -> Float64[np.ndarray, "n b"]:
    """|r|² of whole numbers, exact."""
    wide = left.astype(np.float64)
    return np.einsum("nbd,nbd->nb", wide, wide)


def best(scores: Float[np.ndarray, "n k"], few: int) -> Int64[np.ndarray, "n few"]:
    """The columns of the largest scores of each row, of equal ones the first; spoils the scores."""
    rows, found = np.arange(len(scores)), []
    for _ in range(few):
        found.append(scores.argmax(1))
        scores[rows, found[-1]] = -np.inf
    return np.stack(found, axis=1)


class FrameSplitter:
    """Samples as overlapping frames: the first begins a hop before the first sample, the last ends after the last."""

    def __init__(self, hop: int) -> None:
        self._hop, self._held, self._taken = hop, np.zeros(hop), 0

    def push(self, samples: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "t w"]:
        """The frames that are complete."""
        self._taken += len(samples)
        held = np.concatenate([self._held, samples])
        count = max(len(held) // self._hop - 1, 0)
        self._held = held[count * self._hop :]
        if not count:
            return np.zeros((0, 2 * self._hop))
        hops = held[: (count + 1) * self._hop].reshape(count + 1, self._hop)
        return np.concatenate([hops[:-1], hops[1:]], axis=1)

    def flush(self) -> Float64[np.ndarray, "t w"]:
        """The last frames, silence behind the last sample."""
        missing = mdct.frames_of(self._taken, self._hop) * self._hop - self._taken
        return self.push(np.zeros(missing))

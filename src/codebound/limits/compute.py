"""The limits of a source, for the command line: of a Gaussian in closed form, of a user's vectors by estimate."""

from __future__ import annotations

import math
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from codebound import search
from codebound.data import arrays
from codebound.errors import InputError
from codebound.metrics.usage import usage
from codebound.quantize.init import KMeans
from codebound.reporting.statistics import student_half_width
from codebound.theory import bounds, finite, gaussian
from codebound.theory.converse import converse
from codebound.theory.entropy import differential_entropy, least_rows

ENTROPY_ROWS = 10_000  # the estimate's time grows with the rows, its uncertainty is small by then
KMEANS_ROWS = 100_000
PATCHES = 50_000  # of a folder of images


@dataclass(frozen=True)
class GaussianLimits:
    """Squared errors summed over the vector, at `rate_bits` bits per vector; None where not defined."""

    shannon: float  # no code of any length can do better
    converse: float | None  # no code with this many codewords can; isotropic only
    best_known: float | None
    random_codebook: float  # expected, for codewords drawn from the water-filled Gaussian
    random_codebook_error: float | None  # one standard error, where it is estimated
    best_variance: float | None  # of the codewords of a random codebook; isotropic only
    best_random_codebook: float | None  # what that variance reaches
    rate_bits: float


def gaussian_limits(spectrum: Float[np.ndarray, " k"], codebook_size: int) -> GaussianLimits:
    """Limits for the Gaussian with these variances along its principal axes.

    Raises:
        InputError: a codebook of fewer than 2, or variances that are negative, not finite or all zero.
    """
    _check_size(codebook_size)
    if not (np.isfinite(spectrum).all() and (spectrum >= 0).all() and spectrum.sum() > 0):
        raise InputError(f"variances must be finite, not negative and not all zero; got {spectrum.tolist()}")
    dim, rate = len(spectrum), math.log2(codebook_size)
    shannon = gaussian.water_filling(spectrum, rate).distortion
    if not np.allclose(spectrum, spectrum[0], rtol=1e-9):
        covariance = np.diag(spectrum)
        codewords = gaussian.reproduction_covariance(covariance, rate)
        random = finite.random_codebook_distortion_qmc(covariance, codewords, codebook_size)
        return GaussianLimits(shannon, None, None, random.value, random.standard_error, None, None, rate)
    variance = float(spectrum[0])
    asymptotic = gaussian.reproduction_variance(variance, rate, dim)
    best, known = (
        finite.best_codeword_variance(dim, codebook_size, variance),
        bounds.best_known(dim, codebook_size, variance),
    )
    return GaussianLimits(
        shannon=shannon,
        converse=converse(dim, codebook_size, variance).certified,
        best_known=known.distortion if known else None,
        random_codebook=finite.random_codebook_distortion(dim, codebook_size, asymptotic, variance),
        random_codebook_error=None,
        best_variance=best.variance,
        best_random_codebook=best.distortion,
        rate_bits=rate,
    )


def load_covariance(path: Path) -> Float[np.ndarray, "k k"]:
    """A square matrix from `.npy`, or from text with commas or blanks.

    Raises:
        InputError: the file can't be read or is not a square matrix.
    """
    try:
        if path.suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
        else:
            text = path.read_text(encoding="utf-8").replace(",", " ")
            matrix = np.array(
                [[float(cell) for cell in line.split()] for line in text.splitlines() if line.strip()]
            )
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"--covariance {path} can't be read as a matrix of numbers: {error}") from None
    if not isinstance(matrix, np.ndarray) or matrix.dtype.kind not in "biuf":
        held = matrix.dtype if isinstance(matrix, np.ndarray) else "an archive"
        raise InputError(f"--covariance {path} holds {held}; one matrix of real numbers is accepted")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise InputError(f"--covariance {path} must hold a square matrix; its shape is {matrix.shape}")
    return matrix.astype(np.float64)


@dataclass(frozen=True)
class EstimatedLimits:
    """What samples say of the limit of their source; squared errors summed over the vector."""

    shannon: float  # Shannon lower bound, from the entropy estimate
    shannon_low: float  # the same at the ends of the estimate's 95 % interval
    shannon_high: float
    entropy_bits: float
    gaussian_reference: float  # the water-filled Gaussian of equal covariance: data may beat it


def estimated_limits(z: Float[np.ndarray, "n k"], codebook_size: int) -> EstimatedLimits:
    """Shannon lower bound and Gaussian reference of the source that `z` are samples of.

    For distortions on held-out rows `z` must follow the same distribution as those rows.

    Raises:
        InputError: what `differential_entropy` refuses: discrete data, a singular covariance, too few rows.
    """
    dim, rate = z.shape[1], math.log2(codebook_size)
    entropy = differential_entropy(z[:ENTROPY_ROWS])
    low, value, high = (
        bounds.shannon_lower_bound(bits, dim, rate) for bits in (entropy.low, entropy.bits, entropy.high)
    )
    spectrum = gaussian.spectrum(np.cov(z.T).reshape(dim, dim))
    reference = gaussian.water_filling(spectrum, rate).distortion
    return EstimatedLimits(value, low, high, entropy.bits, reference)


def read_vectors(path: str, axis: int | None = None) -> arrays.Vectors:
    """The vectors of a file or a folder, as their limit is estimated: pixels have noise of one of their 255 levels.

    8-bit values have no density of their own. `axis` as in `load_vectors`.

    Raises:
        InputError: a file that can't be used.
    """
    vectors = arrays.load_vectors(path, count=PATCHES, axis=axis)
    if vectors.groups is None:
        return vectors
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(vectors.values.shape, generator=generator) - 0.5
    return replace(vectors, values=vectors.values + noise.to(vectors.values) / 255)


def vector_limits(
    vectors: arrays.Vectors, held_out: arrays.Vectors, codebook_size: int, seed: int, name: str
) -> EstimatedLimits:
    """What all vectors (of a file of this name) say of the limit for the `held_out` ones among them.

    Rows are exchangeable, so all of them tell of the held-out ones; other images may be another distribution.

    Raises:
        InputError: too few rows for an entropy estimate, and what `estimated_limits` refuses.
    """
    same = vectors if vectors.groups is None else held_out
    least = least_rows(vectors.values.shape[1])
    if len(same.values) < least:
        which = "" if same is vectors else f", {len(same.values)} of them held out"
        raise InputError(
            f"{name} has {len(vectors.values)} rows{which}; estimating their limit needs {least}"
            f"{'' if same is vectors else ' held out'}"
        )
    order = np.random.default_rng(seed).permutation(len(same.values))
    return estimated_limits(same.values.double().numpy()[order], codebook_size)


@dataclass(frozen=True)
class DataLimits(EstimatedLimits):
    """Where k-means stands on a user's vectors, in the data's units."""

    rows: int
    dim: int
    rate_bits: float
    kmeans: float  # on held-out rows
    kmeans_low: float | None  # its 95 % interval over held-out rows, or images; None for a single image
    kmeans_high: float | None
    kmeans_train: float
    gap_db: float  # k-means on held-out rows to `shannon`
    gap_db_low: float | None  # from `kmeans_low` over `shannon_high`
    gap_db_high: float | None  # to `kmeans_high` over `shannon_low`
    gaussian_reference_db: float
    perplexity: float  # held out
    perplexity_even: float  # what as many rows are expected to show of equally likely codewords
    held_out_rows: int


def data_limits(path: str, codebook_size: int, seed: int = 0, axis: int | None = None) -> DataLimits:
    """Limits and k-means for the vectors in a file or folder; `axis` as in `load_vectors`.

    The interval of k-means' error D on held-out rows is Student's for the mean of their squared errors e (of the
    images' means where rows are patches of images), carried to decibels to first order, where it stays positive:

        10·log₁₀ D ± 10/ln 10 · t(.975, n−1)·s(e)/(√n·D)

    It is for this codebook and does not contain the choice of the training rows. The gap's interval goes from the
    low end over the largest bound that the entropy estimate allows to the high end over the smallest.

    Raises:
        InputError: a file that can't be used, fewer training rows than codewords, too few rows for an entropy
            estimate, a seed that is none, and what `estimated_limits` refuses.
    """
    _check_size(codebook_size)
    if not 0 <= seed < 2**63:
        raise InputError(f"seed must be an integer from 0 to 2^63 - 1; got {seed}")
    vectors = read_vectors(path, axis)
    train, held_out = arrays.split(vectors, seed=seed)
    if len(train.values) < codebook_size:
        raise InputError(
            f"{vectors.name} has {len(vectors.values)} rows, {len(train.values)} of them for training: fewer than "
            f"codebook_size={codebook_size}"
        )
    limits = vector_limits(vectors, held_out, codebook_size, seed, path)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(train.values), generator=generator)[:KMEANS_ROWS]
    codebook = KMeans()(train.values[rows], codebook_size, generator)
    indices = search.nearest(held_out.values, codebook)
    reached = float(search.distortion(held_out.values, codebook, indices))
    squares = (held_out.values - codebook[indices]).square().sum(-1).double()
    half = _half_width_db(squares.numpy(), held_out.groups, reached)
    reached_low, reached_high = (None if half is None else reached * 10 ** (s * half / 10) for s in (-1, 1))
    return DataLimits(
        **asdict(limits),
        rows=len(vectors.values),
        dim=vectors.values.shape[1],
        rate_bits=math.log2(codebook_size),
        kmeans=reached,
        kmeans_low=reached_low,
        kmeans_high=reached_high,
        kmeans_train=float(search.distortion(train.values[rows], codebook)),
        gap_db=gaussian.gap_db(reached, limits.shannon),
        gap_db_low=None if reached_low is None else gaussian.gap_db(reached_low, limits.shannon_high),
        gap_db_high=None if reached_high is None else gaussian.gap_db(reached_high, limits.shannon_low),
        gaussian_reference_db=gaussian.gap_db(reached, limits.gaussian_reference),
        perplexity=float(usage(torch.bincount(indices, minlength=codebook_size)).perplexity),
        perplexity_even=finite.uniform_perplexity(codebook_size, len(held_out.values)),
        held_out_rows=len(held_out.values),
    )


def _half_width_db(squares: np.ndarray, groups: Tensor | None, mean: float) -> float | None:
    """Half the interval of a mean squared error, in decibels; patches of an image are not independent."""
    if groups is not None:
        squares = np.array([squares[groups == group].mean() for group in groups.unique()])
    if len(squares) < 2:
        return None
    return 10 / math.log(10) * float(student_half_width(squares)) / mean


def _check_size(codebook_size: int) -> None:
    if codebook_size < 2:
        raise InputError(
            f"codebook_size must be at least 2 (one codeword carries 0 bits); got {codebook_size}"
        )

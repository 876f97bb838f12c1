"""How near a set of sampled pictures is to real ones, in named feature spaces, beside a floor and a ceiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from codebound.errors import InputError
from codebound.evaluate.classifier import PictureClassifier
from codebound.metrics import distributions
from codebound.metrics.effnet import EffnetFeatures

COMPONENTS, SIDE = 64, 32  # of raw pixels' principal components; the side that larger pictures are reduced to
LEAST = distributions.NEAREST + 1  # pictures in a half

Pictures = UInt8[Tensor, "_ _ _ _"]


class FeatureSpace(NamedTuple):
    """What pictures are compared in.

    Attributes:
        name: in every figure's heading.
        features: of pictures, `[n, d]`.
        probabilities: of classes, for the class score; None where there is no classifier.
        classes: their names.
    """

    name: str
    features: Callable[[Tensor], Float[Tensor, "n d"]]
    probabilities: Callable[[Tensor], Float[Tensor, "n k"]] | None = None
    classes: tuple[str, ...] = ()


def pixel_space(reference: Pictures) -> FeatureSpace:
    """Principal components of raw pixels, those of the reference, each unscaled: what squared error sees."""
    flat = _pixels(reference)
    mean = flat.mean(0)
    axes = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:COMPONENTS]
    return FeatureSpace(f"pixels, {len(axes)} principal components", lambda x: (_pixels(x) - mean) @ axes.T)


def classifier_space(classifier: PictureClassifier) -> FeatureSpace:
    """The features of a trained classifier, standardised on what it was trained on."""
    return FeatureSpace("classifier", classifier.features, classifier.probabilities, classifier.classes)


def effnet_space() -> FeatureSpace:
    """EfficientNet-Lite0, trained on ImageNet; needs the extra `perceptual`."""
    network = EffnetFeatures()
    return FeatureSpace(f"EfficientNet-Lite0 at {network.side} pixels", lambda x: network(x / 255))


def module_space(name: str, module: nn.Module) -> FeatureSpace:
    """A module of the user's own: from pictures in [0, 1] to features `[n, d]`."""

    @torch.no_grad()
    def features(pictures: Tensor) -> Tensor:
        return torch.cat([module(part / 255) for part in pictures.split(distributions.ROWS)])

    return FeatureSpace(name, features)


def compare(
    samples: Pictures,
    reference: Pictures,
    space: FeatureSpace,
    *,
    reconstruct: Callable[[Tensor], Tensor] | None = None,
    labels: Int64[Tensor, " _"] | None = None,
    errors: bool = True,
) -> dict[str, Any]:
    """Figures of the samples, and of pictures that can't be told from real ones, all against one half of the reference.

    The floor is the other half of the reference: real pictures against real ones. The ceiling is its reconstructions:
    a prior over a tokenizer's codes can't be nearer than that tokenizer is. All have equally many pictures, as measures
    depend on their number.

    Args:
        reconstruct: pictures to what a tokenizer gives back of them; without it there is no ceiling.
        labels: the classes that the samples are to be of, by the numbers of the space's classes; −1 where none.
        errors: whether each figure gets its half-sample standard error, which takes 40 times as long.

    Returns:
        `pictures`, the number in each set; then for "samples", "ceiling" and "floor" the figures by name, each with its
        half-sample standard error as `NAME_error`.

    Raises:
        InputError: pictures of other shapes, or too few of them.
    """
    # One half judges, the other one is what real pictures look like beside it.
    if samples.shape[1:] != reference.shape[1:]:
        raise InputError(
            f"pictures of one size and colour are needed; got {list(samples.shape[1:])} and {list(reference.shape[1:])}"
        )
    count = min(len(samples), len(reference) // 2)
    if count < LEAST:
        raise InputError(
            f"at least {LEAST} samples and {2 * LEAST} pictures of the reference are needed; got {len(samples)} and "
            f"{len(reference)}"
        )
    judge, real = reference[:count], reference[count : 2 * count]
    sets = {"samples": samples[:count]}
    if reconstruct is not None:
        sets["ceiling"] = reconstruct(real)
    sets["floor"] = real

    # The same figures of each set.
    judged = space.features(judge)
    figures: dict[str, Any] = {"space": space.name, "pictures": count}
    for name, pictures in sets.items():
        figures[name] = _figures(space.features(pictures), judged, errors)
        if space.probabilities is not None:
            probabilities = space.probabilities(pictures)
            figures[name]["class_score"] = distributions.class_score(probabilities)
            if name == "samples" and labels is not None and bool((labels[:count] >= 0).any()):
                asked = labels[:count]
                figures[name]["right_class"] = float(
                    (probabilities.argmax(1) == asked)[asked >= 0].double().mean()
                )
    return figures


def copies(samples: Pictures, seen: Pictures, unseen: Pictures, space: FeatureSpace) -> float:
    """Share of the samples that are nearer to a training picture than all but 1 % of unseen real pictures are.

    About .01 where nothing was learned by heart; 1 where samples are training pictures.
    """
    training = space.features(seen)
    usual = distributions.nearest_distances(space.features(unseen), training)
    found = distributions.nearest_distances(space.features(samples), training)
    return float((found < usual.quantile(0.01)).double().mean())


def _figures(
    samples: Float[Tensor, "n d"], reference: Float[Tensor, "_ d"], errors: bool
) -> Mapping[str, float]:
    """All measures of two sets of features, each with its error if that is asked for."""

    def measure(x: Tensor, y: Tensor) -> Float[Tensor, " k"]:
        distances = (distributions.frechet(x, y), distributions.kernel_distance(x, y))
        return torch.tensor([*distances, *distributions.cover(x, y)], dtype=torch.float64)

    names = ("frechet", "kernel", "precision", "recall", "density", "coverage")
    values = measure(samples, reference).tolist()
    found: dict[str, float] = dict(zip(names, values, strict=True))
    if errors and len(samples) >= 4 * LEAST:
        deviations = distributions.half_sample_error(measure, samples, reference).tolist()
        found |= {f"{name}_error": error for name, error in zip(names, deviations, strict=True)}
    return found


def _pixels(pictures: Pictures) -> Float[Tensor, "n d"]:
    """Pixels in [0, 1] in a row, of pictures up to 32 pixels along a side."""
    values = pictures.float() / 255
    if max(values.shape[2:]) > SIDE:
        values = nn.functional.adaptive_avg_pool2d(values, [min(side, SIDE) for side in values.shape[2:]])
    return values.flatten(1)

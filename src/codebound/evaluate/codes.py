"""What frozen codes know of classes: a linear probe, nearest neighbours, clusters; beside the pixels themselves."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from codebound.data.image_sets import ImageSet, LabelledPictures
from codebound.errors import InputError
from codebound.evaluate.tokenizers import codewords
from codebound.metrics.distributions import adjusted_rand_index, normalised_mutual_information
from codebound.metrics.probe import linear_probe
from codebound.quantize.noise import seeded
from codebound.quantize.seeding import kmeans_plus_plus
from codebound.theory.lloyd import lloyd
from codebound.tokenizers.image import ImageTokenizer

TRAIN, TEST = 10_000, 2_000  # pictures, at most
NEIGHBOURS, STARTS = 10, 8  # that vote; k-means runs, of which the best one counts
AT_ONCE = 128  # pictures


class CodeKnowledge(NamedTuple):
    """Of one kind of feature.

    Attributes:
        probe: test accuracy of a linear probe (`metrics.probe`).
        neighbours: test accuracy of the vote of the 10 nearest training pictures.
        nmi, ari: agreement of k-means clusters of the test pictures, as many as classes, with the classes.
    """

    probe: float
    neighbours: float
    nmi: float
    ari: float


def code_knowledge(tokenizer: ImageTokenizer, images: ImageSet) -> dict[str, CodeKnowledge]:
    """What `codewords` of the indices, `indices` as one-of-K counts, and `pixels` know of the classes.

    Counts do not know where a token stands; pixels are what an encoder has seen, and no limit of it.

    Raises:
        InputError: pictures without classes, or of other channels than the tokenizer's.
    """
    if images.train_labelled is None or images.test_labelled is None:
        raise InputError(f"data={images.name}: classes of whole pictures are needed; this set has none")
    if images.channels != tokenizer.channels:
        raise InputError(
            f"data={images.name}: pictures of {images.channels} channels; the tokenizer has {tokenizer.channels}"
        )
    train, test = (
        LabelledPictures(part.images[:most], part.labels[:most])
        for part, most in ((images.train_labelled, TRAIN), (images.test_labelled, TEST))
    )
    kinds = {"codewords": codewords, "indices": _counts, "pixels": _pixels}
    found = {}
    for name, features in kinds.items():
        x, y = (features(tokenizer, part.images) for part in (train, test))
        found[name] = _knowledge(x, train.labels, y, test.labels)
    return found


def neighbour_accuracy(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    test_features: Float[Tensor, "m d"],
    test_labels: Int64[Tensor, " m"],
    nearest: int = NEIGHBOURS,
) -> float:
    """Accuracy of the vote of the nearest features; of classes with equally many votes the first one wins."""
    classes, right = int(labels.max()) + 1, 0
    for start in range(0, len(test_features), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        near = (
            torch.cdist(test_features[part], features)
            .topk(min(nearest, len(features)), largest=False)
            .indices
        )
        votes = torch.nn.functional.one_hot(labels[near], classes).sum(1)
        right += int((votes.argmax(1) == test_labels[part]).sum())
    return right / len(test_features)


def cluster(features: Float[Tensor, "n d"], count: int, seed: int = 0) -> Int64[Tensor, " n"]:
    """The cells of the best of 8 k-means runs, each from k-means++."""
    starts = torch.stack([kmeans_plus_plus(features, count, seeded(seed + i)) for i in range(STARTS)])
    found = lloyd(features, starts, iterations=50)
    best = found.codebook[int(found.distortion.argmin())]
    return torch.cdist(features, best).argmin(1)


def _knowledge(x: Tensor, labels: Tensor, y: Tensor, test_labels: Tensor) -> CodeKnowledge:
    """All figures of one kind of feature."""
    cells = cluster(y, int(labels.max()) + 1)
    return CodeKnowledge(
        linear_probe(x, labels, y, test_labels),
        neighbour_accuracy(x, labels, y, test_labels),
        normalised_mutual_information(cells, test_labels),
        adjusted_rand_index(cells, test_labels),
    )


def _counts(tokenizer: ImageTokenizer, images: Tensor) -> Float[Tensor, "n k"]:
    """How often a picture has each index."""
    sizes = tokenizer.quantizer.codebook_sizes
    parts = []
    for part in images.split(AT_ONCE):
        tokens = tokenizer.flatten(tokenizer.encode(part))
        parts.append(
            torch.zeros(len(part), sum(sizes)).scatter_add_(1, tokens, torch.ones_like(tokens).float())
        )
    return torch.cat(parts)


def _pixels(tokenizer: ImageTokenizer, images: Tensor) -> Float[Tensor, "n d"]:
    """The pixels in a row."""
    return images.flatten(1).float() / 255

"""What codes know of classes."""

import pytest
import torch

from codebound import VectorQuantizer
from codebound.data.image_sets import FixedPictures, LabelledPictures
from codebound.data.image_sources import PictureRequest, open_images
from codebound.errors import InputError
from codebound.evaluate.codes import cluster, code_knowledge, neighbour_accuracy
from codebound.tokenizers import ImageTokenizer


def test_neighbours_and_clusters_of_separate_blobs_know_all() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    x = torch.randn(90, 2, generator=generator) * 0.1 + torch.tensor([[0.0, 0], [5, 0], [0, 5]])[labels]
    assert neighbour_accuracy(x[:60], labels[:60], x[60:], labels[60:]) == 1
    cells = cluster(x, 3)
    assert all(len(cells[labels == k].unique()) == 1 for k in range(3))
    assert len(cells.unique()) == 3
    # The nearest one alone decides where only one votes.
    assert neighbour_accuracy(torch.tensor([[0.0], [1.0], [1.2]]), torch.tensor([0, 1, 1]), torch.tensor([[0.1]]),
                              torch.tensor([0]), nearest=1) == 1  # fmt: skip
    assert neighbour_accuracy(torch.tensor([[0.0], [1.0], [1.2]]), torch.tensor([0, 1, 1]), torch.tensor([[0.1]]),
                              torch.tensor([0]), nearest=3) == 0  # fmt: skip


def labelled(count: int, seed: int) -> LabelledPictures:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 60, (count, 1, 8, 8), generator=random) + 150 * labels[:, None, None, None]
    return LabelledPictures(images.to(torch.uint8), labels)


def test_codes_of_dark_and_bright_pictures_know_which_is_which() -> None:
    images = FixedPictures("two", "two classes", labelled(60, 0), labelled(30, 1), 30)
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(VectorQuantizer(4, 8), channels=1, width=8, depth=1).eval()
    tokenizer.quantizer.init_(tokenizer.latents(images.images))
    found = code_knowledge(tokenizer, images)
    assert set(found) == {"codewords", "indices", "pixels"}
    for figures in found.values():
        assert figures.probe == figures.neighbours == 1
        assert figures.nmi == pytest.approx(1)
        assert figures.ari == pytest.approx(1)
    with pytest.raises(InputError, match="this set has none"):
        code_knowledge(tokenizer, open_images("photos", PictureRequest(crop=8, held_out=4, channels=1)))

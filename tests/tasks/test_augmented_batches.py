"""Every task on pictures trains on augmented ones, and judges by those that it was given."""

import pytest
import torch

from codebound.data.augment import Augmentation
from codebound.data.image_sets import FixedPictures, LabelledPictures
from codebound.errors import InputError
from codebound.evaluate.classifier import PictureClassifier
from codebound.quantize import FSQ
from codebound.runs import prior as prior_run
from codebound.tasks.classifier import ClassifierOptimization, ClassifierTask
from codebound.tasks.codes import PictureCodes
from codebound.tasks.tokenizer import TokenizerOptimization, TokenizerTask
from codebound.tokenizers import ImageTokenizer


@pytest.fixture
def images():
    pictures = torch.randint(
        256, (48, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    part = LabelledPictures(pictures, torch.arange(48) % 2)
    return FixedPictures("noise", "noise", part, part, 16)


@pytest.fixture
def tokenizer():
    return ImageTokenizer(FSQ((4, 3)), channels=1, width=8, depth=0, stride=4).eval()


def test_tokenizers_classifiers_and_priors_see_flipped_pictures(images, tokenizer):
    plain = images.batch(0, 3, 16)
    task = TokenizerTask(tokenizer, images, TokenizerOptimization(flip=1.0))
    assert torch.equal(next(task.batches(0, 3, 16)), plain.flip(-1))
    assert torch.equal(task.images.held_out, images.images[:16])

    judge = ClassifierTask(PictureClassifier(1, ("a", "b"), 8), images, ClassifierOptimization(flip=1.0))
    pictures, labels = next(judge.batches(0, 3, 16))
    assert torch.equal(pictures, plain.flip(-1))
    assert torch.equal(labels, images.labels(0, 3, 16))

    codes = PictureCodes(tokenizer, images, Augmentation(flip=1.0))
    pictures, labels = next(codes.batches(0, 3, 16))
    assert torch.equal(pictures, plain.flip(-1))
    assert torch.equal(labels, images.labels(0, 3, 16))
    assert torch.equal(codes.held_out[0], PictureCodes(tokenizer, images).held_out[0])


def test_codes_alone_are_not_augmented(tmp_path, tokenizer):
    (tmp_path / "data").mkdir()
    settings = prior_run.Settings(tokenizer="unused", data=str(tmp_path), shift=1)
    with pytest.raises(InputError, match="flip, shift, turn and recolour change pictures"):
        prior_run._codes(settings, tokenizer)

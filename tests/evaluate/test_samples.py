"""Sampled pictures beside real ones: floor, ceiling, copies, and what sets are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codebound.errors import InputError
from codebound.evaluate import samples as evaluation
from codebound.evaluate.classifier import PictureClassifier
from codebound.runs import judging


def pictures(count: int, seed: int, brightness: float = 100.0) -> torch.Tensor:
    """Smooth grey pictures that vary in a few ways."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:12, :10] / 12
    parts = random.normal(0, 25, (count, 3, 1, 1))
    values = brightness + parts[:, 0] + parts[:, 1] * x + parts[:, 2] * np.sin(6 * y)
    values = values + random.normal(0, 3, values.shape)
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))[:, None]


def test_real_pictures_are_at_the_floor_others_are_not() -> None:
    reference = pictures(240, 0)
    space = evaluation.pixel_space(reference)
    real = evaluation.compare(pictures(200, 1), reference, space, reconstruct=lambda x: (x // 32) * 32 + 16)
    other = evaluation.compare(pictures(200, 1, brightness=160.0), reference, space)
    assert real["pictures"] == other["pictures"] == 120
    assert real["floor"] == other["floor"]
    floor, ceiling = real["floor"], real["ceiling"]
    for name in ("frechet", "kernel", "coverage"):
        assert abs(real["samples"][name] - floor[name]) < 5 * floor[f"{name}_error"]
        assert abs(other["samples"][name] - floor[name]) > 5 * floor[f"{name}_error"]
    assert floor["frechet"] < ceiling["frechet"] < other["samples"]["frechet"]
    assert floor["coverage"] > 0.8 > 0.5 > other["samples"]["coverage"]
    assert "ceiling" not in other

    # Without errors the figures are the same.
    plain = evaluation.compare(pictures(200, 1), reference, space, errors=False)
    assert plain["floor"] == {name: value for name, value in floor.items() if not name.endswith("_error")}


def test_copies_of_training_pictures_are_found() -> None:
    seen, unseen = pictures(300, 0), pictures(200, 1)
    space = evaluation.pixel_space(unseen)
    assert evaluation.copies(seen[:50], seen, unseen, space) == 1
    assert evaluation.copies(pictures(200, 2), seen, unseen, space) < 0.08


def test_classes_are_counted_where_they_were_asked_for() -> None:
    torch.manual_seed(0)
    classifier = PictureClassifier(1, ("dark", "bright"), width=8).eval()
    # Whatever the network is, its own answers are right.
    samples, reference = pictures(40, 0), pictures(80, 1)
    classifier.centre_(reference)
    assert torch.allclose(classifier.features(reference).mean(0), torch.zeros(32), atol=1e-4)
    own = classifier.probabilities(samples).argmax(1)
    space = evaluation.classifier_space(classifier)
    assert evaluation.compare(samples, reference, space, labels=own)["samples"]["right_class"] == 1
    assert evaluation.compare(samples, reference, space, labels=1 - own)["samples"]["right_class"] == 0
    some = own.clone()
    some[::2] = -1
    found = evaluation.compare(samples, reference, space, labels=some)["samples"]
    assert found["right_class"] == 1
    assert 1 <= found["class_score"] <= 2
    assert "right_class" not in evaluation.compare(samples, reference, space)["samples"]


def test_a_module_of_one_s_own_is_a_space() -> None:
    space = evaluation.module_space("halves", torch.nn.Sequential(torch.nn.AvgPool2d(5), torch.nn.Flatten()))
    found = evaluation.compare(pictures(40, 0), pictures(80, 1), space)
    assert found["space"] == "halves"
    assert found["samples"]["precision"] > 0.5


def test_a_classifier_is_a_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = PictureClassifier(3, ("a", "b"), width=8).eval()
    classifier.centre_(torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8))
    classifier.save_pretrained(tmp_path / "model")
    again = PictureClassifier.from_pretrained(tmp_path / "model")
    images = torch.rand(3, 3, 16, 16)
    assert torch.equal(again.features(images), classifier.features(images))
    assert again.classes == ("a", "b")
    with pytest.raises(InputError, match=r"\[b, 3, h, w\]"):
        again.features(images[:, :1])
    with pytest.raises(InputError, match="at least 2 classes"):
        PictureClassifier(3, ("a",))


def folder(path: Path, images: torch.Tensor, classes: list[str] | None = None) -> str:
    path.mkdir()
    for number, picture in enumerate(images):
        Image.fromarray(picture[0].numpy()).save(path / f"{number:03}.png")
    if classes is not None:
        rows = [{"file": f"{n:03}.png", "class": c} for n, c in enumerate(classes)]
        (path / "samples.json").write_text(json.dumps({"samples": rows}))
    return str(path)


def test_folders_are_read_in_order_with_their_classes_and_without_the_sheet(tmp_path: Path) -> None:
    images = pictures(14, 0)
    one = folder(tmp_path / "one", images, ["a", "b"] * 7)
    Image.new("L", (50, 50)).save(tmp_path / "one" / "grid.png")
    found = judging.read_set(one, 100)
    assert torch.equal(found.pictures, images)
    assert found.classes == ["a", "b"] * 7
    assert len(judging.read_set(one, 3).pictures) == 3
    other = folder(tmp_path / "other", pictures(30, 1))
    Image.new("L", (50, 50)).save(tmp_path / "other" / "grid.png")
    (figures,) = judging.judge(one, other)
    assert figures["pictures"] == 14
    head, *rows = judging.table(figures)
    assert head[0].endswith("14 pictures")
    assert [row[0] for row in rows][:2] == ["Fréchet distance", "kernel distance, ×1000"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cut {", "can't be read"),
        ("[]", "lists no pictures"),
        ('{"samples": [{"file": "a"}]}', "lists no pictures"),
        ("{}", "lists no"),
    ],
)
def test_a_list_of_samples_that_says_something_else_is_refused(text: str, said: str, tmp_path: Path) -> None:
    one = folder(tmp_path / "one", pictures(14, 0))
    (tmp_path / "one" / "samples.json").write_text(text)
    with pytest.raises(InputError, match=rf"samples\.json {said}"):
        judging.read_set(one, 100)


def test_what_can_not_be_judged_is_refused(tmp_path: Path) -> None:
    images = pictures(14, 0)
    one, other = folder(tmp_path / "one", images), folder(tmp_path / "other", pictures(30, 1))
    with pytest.raises(InputError, match="features='inception' is unknown; accepted: pixels"):
        judging.judge(one, other, ["inception"])
    with pytest.raises(InputError, match="it has no study"):
        judging.judge(one, other, [f"classifier:{tmp_path}"])
    with pytest.raises(InputError, match="at least 6 samples and 12 pictures of the reference"):
        judging.judge(folder(tmp_path / "few", images[:1]), other)
    with pytest.raises(InputError, match="of one size and colour"):
        judging.judge(folder(tmp_path / "wide", images[:, :, :8]), other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image"):
        judging.judge(str(tmp_path / "empty"), other)
    Image.new("L", (50, 50)).save(tmp_path / "other" / "large.png")
    with pytest.raises(InputError, match="12x10, 50x50; features need pictures of one size"):
        judging.judge(one, other)
    with pytest.raises(InputError, match="data='none' is unknown"):
        judging.judge(one, "none")

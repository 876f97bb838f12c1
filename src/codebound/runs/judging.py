"""Sets of pictures, sampled or real, beside one another: what `codebound eval samples` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from codebound.data.image_sets import FixedPictures, ImageSet
from codebound.data.image_sources import open_images
from codebound.data.images import read_image
from codebound.data.picture_reading import image_names
from codebound.data.picture_request import PictureRequest
from codebound.errors import InputError
from codebound.evaluate import samples as evaluation
from codebound.evaluate.codes import NEIGHBOURS, CodeKnowledge, code_knowledge
from codebound.runs.classifier import load_classifier
from codebound.runs.run import kind_of, load_settings
from codebound.runs.sampling import INDEX, SHEET_NAME
from codebound.runs.settings import picture_request
from codebound.runs.tokenise import model_folder
from codebound.runs.tokenizer import load_model
from codebound.tokenizers.opening import open_tokenizer, reproduced

SPACES = "pixels, classifier:RUN, effnet"
COUNT = 1000  # samples, at most, by default
ROWS = (
    ("frechet", "Fréchet distance", "{:.3f}"),
    ("kernel", "kernel distance, ×1000", "{:.3f}"),
    ("precision", "precision", "{:.3f}"),
    ("recall", "recall", "{:.3f}"),
    ("density", "density", "{:.3f}"),
    ("coverage", "coverage", "{:.3f}"),
    ("class_score", "class score", "{:.3f}"),
    ("right_class", "right class", "{:.1%}"),
)


KNOWLEDGE = (
    ("probe", "linear probe", "{:.1%}"),
    ("neighbours", f"vote of the {NEIGHBOURS} nearest", "{:.1%}"),
    ("nmi", "clusters, mutual information", "{:.3f}"),
    ("ari", "clusters, adjusted Rand index", "{:.3f}"),
)


class PictureSet(NamedTuple):
    """Pictures that are judged or judged by.

    Attributes:
        classes: the name of each picture's class, None where it has none.
        seen: the pictures that a training on this set sees, where they are of one size.
    """

    pictures: UInt8[Tensor, "n c h w"]
    classes: Sequence[str | None]
    seen: UInt8[Tensor, "m c h w"] | None = None


def judge(
    samples: str,
    reference: str,
    spaces: Sequence[str] = ("pixels",),
    *,
    count: int = COUNT,
    tokenizer: str | None = None,
) -> list[dict[str, Any]]:
    """`evaluate.samples.compare` of two sets in each feature space.

    Args:
        samples, reference: a folder of pictures of one size, such as `codebound sample` writes, or a set by name, of
            which the held-out pictures count.
        spaces: "pixels", "classifier:RUN" or "effnet".
        count: samples, at most; the reference gives twice as many.
        tokenizer: a run or a model whose reconstructions are the ceiling.

    Raises:
        InputError: an unknown space, an empty folder, pictures of several sizes, or too few of them.
    """
    # Both sets, then what they are compared in.
    one, other = read_set(samples, count), read_set(reference, 2 * count)
    reconstruct = None if tokenizer is None else partial(reproduced, open_tokenizer(model_folder(tokenizer)))

    # Each space: the comparison, and whether samples are training pictures.
    tables = []
    for name in spaces:
        space = _space(name, other.pictures)
        numbers = [space.classes.index(c) if c in space.classes else -1 for c in one.classes]
        labels = torch.tensor(numbers)
        figures = evaluation.compare(
            one.pictures, other.pictures, space, reconstruct=reconstruct, labels=labels
        )
        if other.seen is not None:
            half = figures["pictures"]
            unseen = other.pictures[half : 2 * half]
            figures["copies"] = evaluation.copies(one.pictures[:half], other.seen, unseen, space)
        tables.append({"samples_of": samples, "reference": reference, **figures})
    return tables


def judge_codes(run: Path, data: str | None = None) -> dict[str, CodeKnowledge]:
    """What the codes of a finished tokenizer know of the classes of its pictures, or of others.

    Raises:
        InputError: no run of a tokenizer, or pictures without classes.
    """
    kind = kind_of(run)
    tokenizer, settings = load_model(run), load_settings(run, kind.settings)
    request = picture_request(settings)._replace(channels=tokenizer.channels)
    return code_knowledge(tokenizer, open_images(data or settings.data, request))


def read_set(source: str, count: int) -> PictureSet:
    """The pictures of a folder, in order of their names or of its samples.json, or the held-out ones of a set.

    Raises:
        InputError: no picture, one that can't be read, or pictures of several sizes.
    """
    path = Path(source)
    if not path.is_dir():
        images = open_images(source, PictureRequest(held_out=count))
        return PictureSet(images.held_out, _class_names(images), _seen(images))

    # What `codebound sample` wrote says which files are samples, and of which class.
    if (path / INDEX).is_file():
        names, classes = _listed(path / INDEX, count)
    else:
        names = [str(name) for name in image_names(path).names if str(name) != SHEET_NAME][:count]
        classes = [None] * len(names)
    pixels = [read_image(path / name, name).pixels for name in names]
    if len({picture.shape for picture in pixels}) > 1:
        sizes = sorted({f"{p.shape[0]}x{p.shape[1]}" for p in pixels})
        raise InputError(f"{source}: pictures of {', '.join(sizes[:3])}; features need pictures of one size")
    if not pixels:
        raise InputError(f"{source} holds no picture")
    stack = torch.stack([torch.from_numpy(p.copy()).permute(2, 0, 1) for p in pixels])
    return PictureSet(_grey_if_grey(stack), classes)


def _listed(index: Path, count: int) -> tuple[list[str], list[str | None]]:
    """Names of files and of classes that `codebound sample` wrote, at most so many.

    Raises:
        InputError: the file can't be read, or says something else.
    """
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))["samples"][:count]
        return [str(row["file"]) for row in rows], [row["class"] for row in rows]
    except (OSError, ValueError) as error:
        raise InputError(f"{index} can't be read: {error}") from None
    except (KeyError, TypeError, IndexError):
        raise InputError(
            f"{index} lists no pictures with file and class, as codebound sample writes them; without it all "
            "pictures of the folder are taken"
        ) from None


def _grey_if_grey(pictures: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n c h w"]:
    """One channel where all three are equal in every picture."""
    return pictures[:, :1] if bool((pictures == pictures[:, :1]).all()) else pictures


def _class_names(images: ImageSet) -> list[str | None]:
    """The class of each held-out picture."""
    if not images.class_names:
        return [None] * len(images.held_out)
    return [images.class_names[label] for label in images.held_out_labels.tolist()]


def _seen(images: ImageSet) -> Tensor | None:
    """The training pictures of a set that is in memory and of one size."""
    return images.images if isinstance(images, FixedPictures) else None


def _space(name: str, reference: Tensor) -> evaluation.FeatureSpace:
    """The feature space of a name.

    Raises:
        InputError: an unknown one.
    """
    kind, _, rest = name.partition(":")
    if kind == "pixels" and not rest:
        return evaluation.pixel_space(reference)
    if kind == "effnet" and not rest:
        return evaluation.effnet_space()
    if kind == "classifier" and rest:
        return evaluation.classifier_space(load_classifier(Path(rest)))
    raise InputError(f"features={name!r} is unknown; accepted: {SPACES}")


def table(figures: dict[str, Any]) -> list[list[str]]:
    """Rows for a terminal, the first one the head."""
    sets = [name for name in ("samples", "ceiling", "floor") if name in figures]
    rows = [[f"{figures['space']}, {figures['pictures']:,} pictures", *(_HEADS[name] for name in sets)]]
    for key, label, form in ROWS:
        if any(key in figures[name] for name in sets):
            rows.append([label, *(_cell(figures[name], key, form) for name in sets)])
    if "copies" in figures:
        rows.append(
            [
                "nearer to training pictures than 99 % of real ones",
                f"{figures['copies']:.1%}",
                *[""] * (len(sets) - 1),
            ]
        )
    return rows


_HEADS = {"samples": "samples", "ceiling": "reconstructions (ceiling)", "floor": "real (floor)"}


def _cell(figures: dict[str, float], key: str, form: str) -> str:
    """A figure with its standard error, where it has one."""
    if key not in figures:
        return "–"
    scale = 1000 if key == "kernel" else 1
    text = form.format(scale * figures[key])
    error = figures.get(f"{key}_error")
    return text if error is None else f"{text} ± {form.format(scale * error)}"

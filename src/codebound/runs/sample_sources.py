"""What `codebound sample` draws pictures from: a prior over a tokenizer's indices, of either kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from codebound.codec.model import load_model as load_codec_model
from codebound.data.image_sources import open_images
from codebound.errors import InputError
from codebound.generators.drawing import Draw, check_seed
from codebound.generators.masked import MaskedPrior
from codebound.generators.neighbours import grid_bits, sample_grids
from codebound.generators.prior import TokenPrior
from codebound.priors.grid_prior import DESCRIPTION, GridPrior
from codebound.runs.completion import Completion, given_part, whole_size
from codebound.runs.prior import PriorRun, load_run, picture_size
from codebound.runs.run import check_finished, kind_of
from codebound.runs.tokenise import run_data, run_request
from codebound.tokenizers.opening import PictureTokenizer, digest
from codebound.tokenizers.pretrained import DEFAULT_NAME

ALL = "all"  # classes, in turns
PRIOR = PriorRun.name
OF_TOKENIZERS = ("tokenizer", "vqgan")  # kinds of run that `codebound fit-prior` gives an integer prior


class SampleOptions(NamedTuple):
    """What a user asks for.

    Attributes:
        count: pictures, in all.
        label: name or number of a class; "all" for all in turns; None for pictures of no class in particular.
        given, keep: a picture to complete, and what of it stays: "top", "left", or the path of a mask, white where it
            stays.
        steps: of a masked prior; its default if None.
        others: as `TokenPrior.sample`.
    """

    count: int = 16
    label: str | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    guidance: float = 1.0
    seed: int = 0
    given: Path | None = None
    keep: str = "top"
    steps: int | None = None


class Source(NamedTuple):
    """A prior with its tokenizer, ready to draw.

    Attributes:
        size: height and width of the pictures; None for all that a grid decodes to.
        labels: the class of each picture, by number.
        tokens: of a picture.
        exact: whether bits are the code length itself, or an upper bound of it.
        digest: of the tokenizer.
        draw: given the classes of some pictures and the number of the first one, their indices and what each costs in
            bits.
        completion: what is given of a picture.
    """

    tokenizer: PictureTokenizer
    size: tuple[int, int] | None
    classes: tuple[str, ...]
    labels: list[int | None]
    tokens: int
    exact: bool
    digest: str
    draw: Callable[[Sequence[int | None], int], tuple[Any, list[float]]]
    completion: Completion | None = None


def open_source(run: Path, options: SampleOptions) -> Source:
    """The prior of a finished run of `train prior`, or the integer prior beside the tokenizer of another run.

    Raises:
        InputError: no run that has a prior, options that it does not know, or what `TokenPrior.sample` refuses.
    """
    if options.count < 1:
        raise InputError(f"--count {options.count} is not accepted; at least 1 is")
    kind = PRIOR if str(run) == DEFAULT_NAME else kind_of(run).name
    if kind in OF_TOKENIZERS:
        return _of_neighbours(run, options)
    if kind != PRIOR:
        raise InputError(
            f"{run} is a {kind}; a run of codebound train prior, or of an image tokenizer after codebound fit-prior, "
            "is accepted"
        )
    return _of_transformer(run, options)


def _of_transformer(run: Path, options: SampleOptions) -> Source:
    """A prior that knows classes, guidance and what is given of a picture."""
    prior, tokenizer = load_run(run)
    labels, size, completion = _labels(prior, options), picture_size(run), None
    if options.given is not None:
        whole = whole_size(prior, tokenizer)
        completion = given_part(prior, tokenizer, size or whole, options.given, options.keep)
    return Source(
        tokenizer,
        size,
        classes=prior.classes,
        labels=labels,
        tokens=prior.layout.length,
        exact=prior.exact,
        digest=prior.tokenizer,
        draw=partial(_drawn, prior, options, completion),
        completion=completion,
    )


def _of_neighbours(run: Path, options: SampleOptions) -> Source:
    """The integer prior of files, which knows temperature and seed alone.

    Raises:
        InputError: a run without one or not finished, an option that it does not know, or pictures that are no longer
            there: they say how large samples are.
    """
    # Tokenizer and prior belong together by their codebook sizes and by their folder.
    check_finished(run)
    if not (run / "model" / DESCRIPTION).is_file():
        raise InputError(
            f"{run} is a tokenizer without a prior: codebound train prior {run} trains one to sample from, "
            f"codebound fit-prior {run} the integer one, which is cheaper"
        )
    model = load_codec_model(run / "model")
    tokenizer, prior = model.tokenizer, model.prior
    assert prior is not None

    # What it does not know is refused, each by its name.
    for name, given, usual in (
        ("--class", options.label, None),
        ("--guidance", options.guidance, 1.0),
        ("--top-k", options.top_k, None),
        ("--top-p", options.top_p, 1.0),
        ("--from", options.given, None),
        ("--steps", options.steps, None),
    ):
        if given != usual:
            raise InputError(
                f"{name} {given}: {run} has the integer prior alone, which knows --temperature and --seed; "
                f"for more: codebound train prior {run}"
            )
    Draw(temperature=options.temperature).check()
    check_seed(options.seed)

    # Samples are as large as the pictures that the run was trained on.
    data, request = run_data(str(run)), run_request(str(run))
    assert data is not None
    assert request is not None
    size = open_images(data, request).size
    grid = -(-size[0] // tokenizer.stride), -(-size[1] // tokenizer.stride)
    return Source(
        tokenizer,
        size,
        classes=(),
        labels=[None] * options.count,
        tokens=grid[0] * grid[1] * len(prior.codebook_sizes),
        exact=True,
        digest=digest(tokenizer),
        draw=partial(_drawn_of_neighbours, prior, grid, options),
    )


def _labels(prior: TokenPrior, options: SampleOptions) -> list[int | None]:
    """The class of each picture.

    Raises:
        InputError: an unknown class, or "all" of a prior without classes.
    """
    if options.label == ALL:
        if not prior.classes:
            raise InputError("--class all: this prior has no classes")
        return [number % len(prior.classes) for number in range(options.count)]
    label = options.label
    if label is not None and label.isdigit() and label not in prior.classes:
        label = int(label)
    number = int(prior.label_numbers(label, 1))
    return [None if number == prior.no_class else number] * options.count


def _drawn(
    prior: TokenPrior,
    options: SampleOptions,
    completion: Completion | None,
    labels: Sequence[int | None],
    first: int,
) -> tuple[Any, list[float]]:
    """Indices of some pictures, and what each costs in bits given its class."""
    more: dict[str, Any] = {} if options.steps is None else {"steps": options.steps}
    if more and not isinstance(prior, MaskedPrior):
        raise InputError(
            f"--steps {options.steps}: only a masked prior draws in steps; this one draws token after token"
        )
    indices = prior.sample(
        len(labels),
        labels=labels,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        guidance=options.guidance,
        seed=options.seed,
        first=first,
        known=None if completion is None else completion.known,
        **more,
    )
    return indices, prior.bits(indices, labels).tolist()


def _drawn_of_neighbours(
    prior: GridPrior, grid: tuple[int, int], options: SampleOptions, labels: Sequence[int | None], first: int
) -> tuple[Any, list[float]]:
    """The same of the integer prior, which is told no class."""
    indices = sample_grids(
        prior, len(labels), grid, temperature=options.temperature, seed=options.seed, first=first
    )
    return indices, grid_bits(prior, indices).tolist()

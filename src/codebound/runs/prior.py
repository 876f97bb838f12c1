"""The run of a prior over a tokenizer's indices: from its settings to a model that samples, with a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from codebound import config
from codebound.codec.model import load_model as load_codec_model
from codebound.data.image_sources import open_images
from codebound.data.picture_request import PictureRequest
from codebound.engine.devices import launch
from codebound.engine.recipe import LoopSettings, Recipe
from codebound.errors import InputError
from codebound.files import write_text
from codebound.generators import default_model
from codebound.generators.kinds import PRIORS, Kind
from codebound.generators.prior import TokenPrior
from codebound.reporting import page
from codebound.reporting.formatting import number
from codebound.reporting.statistics import mean_interval
from codebound.runs import labels, report_parts
from codebound.runs.audio_tokenise import is_of_sound
from codebound.runs.kinds import EvaluationOptions, Preparation, RunKind, run_kind
from codebound.runs.pictures import grid_picture, save_png
from codebound.runs.run import check_finished, final_figures, load_settings
from codebound.runs.tokenise import model_folder, run_data, run_request
from codebound.tasks.codes import Codes, PictureCodes, TokenisedCodes
from codebound.tasks.prior import PriorOptimization, PriorTask, nominal_bits, order_zero_bits
from codebound.tokenizers.opening import PictureTokenizer, decoded, digest, open_tokenizer
from codebound.tokenizers.pretrained import DEFAULT_NAME

MODEL, TOKENIZER = "model", "tokenizer"  # folders in a run: it can be moved away from the tokenizer's own
SHOWN = 8  # samples of each class in the picture of a run, or rows of as many

_REQUEST = PictureRequest()  # of a model without its run

# Where a figure stands in final_metrics.json, its label, how it is written, and its limit.
ROWS: tuple[labels.Row, ...] = (
    (("held_out", "bits_per_token"), "bits per token", "{:.3f}", "–"),
    (("held_out", "order_zero_bits"), "the same by each index's frequency alone", "{:.3f}", "–"),
    (("held_out", "nominal_bits"), "the same by log₂ K", "{:.3f}", "–"),
    (("held_out", "bits_per_picture"), "bits per picture", "{:.1f}", "–"),
    (("held_out", "bits_per_pixel"), "bits per pixel", "{:.4f}", "–"),
)


class PriorModel(config.Settings):
    """Which prior, and how large.

    Attributes:
        prior: one token after the other, given its neighbours ("autoregressive") or the one before it ("llama", which
            `transformers` can run); or all that are masked at once, in a few steps ("masked").
        width, depth, heads, dropout: of its transformer.
        class_dropout: how often training hides the class, which guidance needs.
    """

    prior: Kind = "autoregressive"
    width: int = Field(default=128, ge=1)
    depth: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    class_dropout: float = Field(default=0.1, ge=0, lt=1)


class Settings(LoopSettings, PriorOptimization, PriorModel):
    """All that decides a run's numbers, but for tokenizer, pictures and machine.

    Attributes:
        tokenizer: the folder of its run or of its model, or "default".
        data: pictures, or the folder of a tokenised set; by default what the tokenizer's run was trained on.
        crop: side of the crops of pictures that are no set of one size; the tokenizer's run's if not given.
        held_out: pictures that judge it, at most.
    """

    kind: Literal["prior"] = "prior"
    tokenizer: str = ""
    data: str | None = None
    crop: int | None = Field(default=None, ge=1)
    held_out: int = Field(default=1024, ge=1)
    steps: int = Field(default=3000, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)  # by default a tenth of the run


class PriorRun(RunKind[Settings]):
    """`codebound train prior RUN`."""

    name = "prior"
    settings = Settings
    shown = (("bits_per_token", "{:.3f} bits a token"),)
    subject = "tokenizer"

    def for_subject(self, subject: str) -> RunKind[Any]:
        """That of sound, if the tokenizer is."""
        return run_kind("sound-prior") if is_of_sound(subject) else self

    def default_name(self, settings: Settings) -> str:
        """The tokenizer's run, and which prior."""
        return f"{Path(settings.tokenizer).name or 'tokens'}-{settings.prior}"

    def prepare(self, settings: Settings) -> Preparation:
        """The tokenizer, its codes, an untrained prior, and the task of training it on them."""
        # The tokenizer and what it makes of the pictures.
        if not settings.tokenizer:
            raise InputError("give the run of a tokenizer: codebound train prior RUN")
        tokenizer = open_tokenizer(model_folder(settings.tokenizer))
        codes = _codes(settings, tokenizer)
        hashed = digest(tokenizer)

        # Weights depend on the seed alone.
        torch.manual_seed(settings.seed)
        prior = PRIORS[settings.prior](
            codes.layout,
            classes=codes.classes,
            width=settings.width,
            depth=settings.depth,
            heads=settings.heads,
            dropout=settings.dropout,
            class_dropout=settings.class_dropout if codes.classes else 0.0,
            tokenizer=hashed,
        )
        every = settings.evaluate_every or max(1, settings.steps // 10)
        recipe = config.part(Recipe, settings, evaluate_every=every)
        identity = {"data": codes.digest, "tokenizer": hashed}
        return Preparation(PriorTask(prior, codes, settings, tokenizer), recipe, identity)

    def finish(self, folder: Path, task: PriorTask, skipped: int, step: int) -> dict[str, Any]:
        """Judge the trained prior and write it, its tokenizer and some samples; returns the figures."""
        # Judge by codes that training never saw.
        size = task.codes.images.size if isinstance(task.codes, PictureCodes) else None
        result = {
            "step": step,
            "skipped_steps": skipped,
            "data": task.codes.note,
            "classes": list(task.codes.classes),
            "grids": task.prior.layout.describe(),
            "size": size,
            **_figures(task),
        }

        # Everything that samples are made of, in this folder.
        task.prior.save_pretrained(folder / MODEL, card=_card(task, result))
        assert task.tokenizer is not None
        tokenizer = task.tokenizer.cpu()
        tokenizer.save_pretrained(folder / TOKENIZER)
        _samples(task.prior, tokenizer, size, folder / "samples.png")
        return result

    def evaluate(self, folder: Path, options: EvaluationOptions) -> dict[str, Any]:
        """The final figures of a finished run anew, also on other pictures or another tokenised set.

        Raises:
            InputError: codes of another layout or other classes than the prior's.
        """
        settings = load_settings(folder, Settings)
        if options.data is not None:
            settings = settings.model_copy(update={"data": options.data})
        prior, tokenizer = load_run(folder)
        codes = _codes(settings, tokenizer)
        if codes.layout.grids != prior.layout.grids or codes.classes != prior.classes:
            raise InputError(
                f"data={settings.data}: {codes.layout.describe()}, {len(codes.classes)} classes; the prior is of "
                f"{prior.layout.describe()}, {len(prior.classes)} classes"
            )
        task = PriorTask(prior.to(launch(options.device).device), codes, settings)
        return {"data": codes.note, **_figures(task)}

    def report(self, folders: Sequence[Path], page_path: Path | None) -> Path:
        """One page for all of these runs: figures, samples, curves."""
        return write_report(folders, page_path)

    def table(self, figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
        """A row for each figure."""
        return labels.table(figures, ROWS)

    def score(self, figures: Mapping[str, Any]) -> str:
        """Bits per token of held-out pictures."""
        return f"{labels.written(labels.look_up(figures, ('held_out', 'bits_per_token')), '{:.3f}')} bits a token"


KIND = PriorRun()


def load_run(folder: Path) -> tuple[TokenPrior, PictureTokenizer]:
    """Prior and tokenizer of a finished run, which belong together; `default` is the model in the package.

    Raises:
        InputError: not a finished run of a prior, or a tokenizer that is not the one it was trained with.
    """
    if str(folder) == DEFAULT_NAME:
        return default_model()
    check_finished(folder)
    settings = load_settings(folder, Settings)
    prior = PRIORS[settings.prior].from_pretrained(folder / MODEL)
    tokenizer = open_tokenizer(folder / TOKENIZER)
    prior.check_tokenizer(digest(tokenizer))
    return prior, tokenizer


def picture_size(folder: Path) -> tuple[int, int] | None:
    """Height and width of the pictures that a finished run's codes are of; None where all that a grid decodes to."""
    if str(folder) == DEFAULT_NAME:
        return None
    size = final_figures(folder).get("size")
    return None if size is None else (size[0], size[1])


def write_report(folders: Sequence[Path], path: Path | None) -> Path:
    """The page of finished priors: `report.html` in the folder of one, `runs.html` beside the first of several."""
    # What the runs left in their folders.
    runs, path = report_parts.summaries(folders), report_parts.page_of(folders, path)
    for folder, run in zip(folders, runs, strict=True):
        run["samples"] = page.embed(folder / "samples.png")

    # All of it in one page, which can be sent alone.
    rows = labels.rows([run["final"] for run in runs], ROWS)
    curves = report_parts.curves(
        runs, ("bits_per_token", "Held out, with averaged weights", "bits per token")
    )
    write_text(path, page.render("runs/prior_report.html.j2", runs=runs, rows=rows, curves=curves))
    return path


def _codes(settings: Settings, tokenizer: PictureTokenizer) -> Codes:
    """What the prior learns from.

    Raises:
        InputError: no data for a model without its run, codes of another tokenizer, or augmentation of codes.
    """
    # A tokenised set holds the codes themselves; they must be this tokenizer's.
    data = settings.data
    if data is not None and (Path(data) / "data").is_dir():
        if settings.moves or settings.recolour:
            raise InputError(
                f"flip, shift, turn and recolour change pictures; data={data} holds codes of them alone"
            )
        codes = TokenisedCodes(Path(data), settings.held_out)
        own = load_codec_model(model_folder(settings.tokenizer)).digest().hex()
        if codes.model != own:
            raise InputError(f"data={data} was made by the model {codes.model}; the tokenizer given is {own}")
        return codes

    # Pictures, held out as the tokenizer's run did: its prior must not have seen them either.
    request = run_request(settings.tokenizer)
    data = data or run_data(settings.tokenizer)
    if data is None:
        raise InputError(
            f"tokenizer={settings.tokenizer} is a model without its run: say what to learn from with --data"
        )
    request = (request or _REQUEST)._replace(held_out=settings.held_out, channels=tokenizer.channels)
    images = open_images(data, request._replace(crop=settings.crop or request.crop))
    return PictureCodes(tokenizer, images, settings)


def _figures(task: PriorTask) -> dict[str, Any]:
    """What the prior reaches on held-out codes, beside what there is without it."""
    bits, tokens = task.held_out_bits().double(), task.prior.layout.length
    found = mean_interval((bits / tokens).tolist())
    low, high = (found.low, found.high) if found.known else (None, None)
    figures = {
        "pictures": len(bits),
        "exact": task.prior.exact,
        "bits_per_token": found.mean,
        "bits_per_token_low": low,
        "bits_per_token_high": high,
        "order_zero_bits": order_zero_bits(task.codes),
        "nominal_bits": nominal_bits(task.codes),
        "bits_per_picture": found.mean * tokens,
    }
    if isinstance(task.codes, PictureCodes):
        figures["bits_per_pixel"] = found.mean * tokens / math.prod(task.codes.images.size)
    return {"held_out": figures}


def _samples(
    prior: TokenPrior, tokenizer: PictureTokenizer, size: tuple[int, int] | None, path: Path
) -> None:
    """A picture of samples: a row for each class, or rows of samples without one."""
    rows = min(len(prior.classes), 16) or 2
    labels = [row for row in range(rows) for _ in range(SHOWN)] if prior.classes else None
    indices = prior.sample(rows * SHOWN, labels=labels)
    save_png(path, grid_picture(decoded(tokenizer, indices, size), SHOWN))


def _card(task: PriorTask, result: Mapping[str, Any]) -> str:
    """The text of a model card: what the prior is of, how it was trained, and a table of its figures."""
    rows = [
        f"| {name} | {number(value)} |"
        for name, value in result["held_out"].items()
        if isinstance(value, float | int) and not isinstance(value, bool)
    ]
    classes = f" Classes: {', '.join(task.prior.classes)}." if task.prior.classes else ""
    return "\n".join(
        [
            f"Trained by `codebound train prior` for {result['step']:,} steps on codes of {result['data']} "
            f"({task.prior.layout.describe()}), by the tokenizer "
            f"{task.prior.tokenizer}.{classes} On held-out pictures:",
            "",
            "| figure | value |",
            "|---|---|",
            *rows,
        ]
    )

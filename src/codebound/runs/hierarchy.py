"""The run of a hierarchical tokenizer: from its settings to a model with figures of each level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from codebound import config
from codebound.data.image_sources import open_images
from codebound.data.picture_request import PictureRequest
from codebound.engine.devices import launch
from codebound.engine.recipe import LoopSettings, Recipe
from codebound.errors import InputError
from codebound.evaluate.hierarchies import hierarchy_figures
from codebound.files import write_text
from codebound.recipes import named
from codebound.recipes.named import QuantizerRequest
from codebound.reporting import page
from codebound.runs import labels, report_parts
from codebound.runs.kinds import EvaluationOptions, Preparation, RunKind
from codebound.runs.pictures import grid_picture, save_png
from codebound.runs.run import check_finished, load_settings
from codebound.runs.settings import NetworkShape, PictureData
from codebound.tasks.hierarchy import HierarchyTask
from codebound.tasks.tokenizer import TokenizerOptimization
from codebound.tokenizers.hierarchy import HierarchicalTokenizer

SHOWN = 8  # held-out pictures in the picture of a run
HELD_OUT = 1024  # pictures, by default

ROWS: tuple[labels.Row, ...] = (
    (("held_out", "psnr"), "PSNR, dB", "{:.2f}", "–"),
    (("held_out", "bpp_nominal"), "bits per pixel, log₂ K", "{:.4f}", "–"),
    (("held_out", "bpp_entropy"), "bits per pixel, index entropy", "{:.4f}", "the line above"),
)
LEVEL_ROWS = (
    ("usage", "usage of the codewords", "{:.1%}", "100 %"),
    ("perplexity", "perplexity, codewords", "{:.1f}", "K"),
    ("bpp_entropy", "bits per pixel, index entropy", "{:.4f}", "–"),
    ("worth_db", "worth: dB lost when it is exchanged", "{:.2f}", "–"),
    ("alone_db", "PSNR with finer levels exchanged, dB", "{:.2f}", "PSNR"),
)


class Settings(LoopSettings, TokenizerOptimization, NetworkShape, PictureData):
    """All that decides a run's numbers, but for the pictures themselves and the machine.

    Attributes:
        levels: resolutions.
        codebook_sizes: K of each level, the coarsest first; by default 512 for all.
        width, depth, stride, dropped: as `HierarchicalTokenizer`.
    """

    kind: Literal["vqvae2"] = "vqvae2"
    levels: Literal[2, 3] = 2
    quantizer: str | dict[str, Any] = "vq-ema"
    codebook_sizes: tuple[int, ...] | None = None
    depth: int = Field(default=1, ge=0)
    dropped: float = Field(default=0.1, ge=0, lt=1)
    steps: int = Field(default=3000, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)  # by default a tenth of the run


class HierarchyRun(RunKind[Settings]):
    """`codebound train vqvae2`."""

    name = "vqvae2"
    settings = Settings
    shown = (("psnr", "PSNR {:.2f} dB"), ("worth_db_0", "top worth {:.2f} dB"))

    def default_name(self, settings: Settings) -> str:
        """Levels, and the data where they are not the default ones."""
        data = settings.data.partition(":")[0]
        return "-".join(["vqvae2", str(settings.levels), *([data] if data != "photos" else [])])

    def pictures(self, settings: Settings) -> PictureRequest:
        """What its settings ask of pictures."""
        held_out = settings.held_out or HELD_OUT
        return PictureRequest(settings.crop, settings.channels, held_out, settings.memory, settings.workers)

    def prepare(self, settings: Settings) -> Preparation:
        """Pictures, an untrained tokenizer, and the task of training it on them.

        Raises:
            InputError: another number of codebook sizes than levels, or one that no quantizer can have.
        """
        images = open_images(settings.data, self.pictures(settings))
        sizes = settings.codebook_sizes or (512,) * settings.levels
        if len(sizes) != settings.levels or min(sizes) < 2:
            raise InputError(
                f"codebook_sizes={list(sizes)}: {settings.levels} of at least 2 are accepted, one a level"
            )

        # Weights depend on the seed alone; a level's quantizer knows how many tokens it will see.
        torch.manual_seed(settings.seed)
        quantizers = []
        for level, size in enumerate(sizes):
            finer = settings.levels - 1 - level
            tokens = [-(-side // (settings.stride << finer)) for side in images.size]
            request = QuantizerRequest(
                codebook_size=size,
                dim=settings.dim,
                depth=1,
                commitment=settings.commitment,
                steps=settings.steps,
                tokens=settings.steps * settings.batch_size * tokens[0] * tokens[1],
                seed=settings.seed + level,
            )
            quantizers.append(named.quantizer(settings.quantizer, request))
        tokenizer = HierarchicalTokenizer(
            quantizers,
            channels=images.channels,
            width=settings.width,
            depth=settings.depth,
            stride=settings.stride,
            dropped=settings.dropped,
        )
        every = settings.evaluate_every or max(1, settings.steps // 10)
        recipe = config.part(Recipe, settings, evaluate_every=every)
        return Preparation(HierarchyTask(tokenizer, images, settings), recipe, {"data": images.digest})

    def finish(self, folder: Path, task: HierarchyTask, skipped: int, step: int) -> dict[str, Any]:
        """Judge the trained tokenizer and write it with some pictures; returns the figures."""
        model, images = task.tokenizer, task.images
        figures = hierarchy_figures(model, images.held_out)
        worth = ", ".join(f"{level['worth_db']:.2f}" for level in figures["levels"])
        card = (
            f"Trained by `codebound train vqvae2` for {step:,} steps on {images.note}: {figures['psnr']:.2f} dB PSNR "
            f"at {figures['bpp_entropy']:.4f} bits per pixel by index entropy on held-out pictures. Its levels, the "
            f"coarsest first, are worth {worth} dB: what is lost when a level's codes are exchanged among pictures."
        )
        model.save_pretrained(folder / "model", card=card)

        # Held-out pictures, what comes back, and what comes back of the coarser levels with the finest exchanged.
        shown = images.held_out[:SHOWN]
        device, size = next(model.parameters()).device, (shown.shape[2], shown.shape[3])
        indices = model.encode(shown.to(device))
        again = model.decode(indices, size=size).cpu()
        coarse = model.decode([*indices[:-1], indices[-1].roll(1, 0)], size=size).cpu()
        save_png(folder / "samples.png", grid_picture(torch.cat([shown / 255, again, coarse]), len(shown)))
        return {"step": step, "skipped_steps": skipped, "data": images.note, "held_out": figures}

    def evaluate(self, folder: Path, options: EvaluationOptions) -> dict[str, Any]:
        """The final figures of a finished run anew, also on other pictures."""
        check_finished(folder)
        settings = load_settings(folder, Settings)
        model = HierarchicalTokenizer.from_pretrained(folder / "model")
        images = open_images(
            options.data or settings.data, self.pictures(settings)._replace(channels=model.channels)
        )
        model = model.to(launch(options.device).device)
        return {"data": images.note, "held_out": hierarchy_figures(model, images.held_out)}

    def report(self, folders: Sequence[Path], page_path: Path | None) -> Path:
        """One page for all of these runs."""
        # What the runs left in their folders.
        runs, page_path = report_parts.summaries(folders), report_parts.page_of(folders, page_path)
        for folder, run in zip(folders, runs, strict=True):
            run["samples"] = page.embed(folder / "samples.png")
        figures = {run["name"]: run["final"] for run in runs}
        text = page.render(
            "runs/hierarchy_report.html.j2",
            runs=runs,
            table=self.table(figures),
            curves=report_parts.curves(
                runs, ("psnr", "Held-out PSNR", "dB"), ("worth_db_0", "Worth of the coarsest level", "dB")
            ),
        )
        write_text(page_path, text)
        return page_path

    def table(self, figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
        """A row for each figure, then for each level's."""
        runs = list(figures.values())
        rows = [[label, *cells, limit] for label, cells, limit in labels.rows(runs, ROWS)]
        most = max(len(run["held_out"]["levels"]) for run in runs)
        for level in range(most):
            for key, label, form, limit in LEVEL_ROWS:
                cells = [
                    labels.written(found[level][key], form) if level < len(found) else "–"
                    for found in (run["held_out"]["levels"] for run in runs)
                ]
                rows.append([f"level {level}: {label}", *cells, limit])
        return [["held out", *figures, "limit"], *rows]

    def score(self, figures: Mapping[str, Any]) -> str:
        """PSNR on held-out pictures, in dB."""
        return f"{labels.written(labels.look_up(figures, ('held_out', 'psnr')), '{:.2f}')} dB"


KIND = HierarchyRun()

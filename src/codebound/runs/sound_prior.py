"""The run of a prior over an audio tokenizer's frames: from its settings to a model that babbles, with a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from codebound import config
from codebound.codec.sound_model import SoundModel, load_sound_model
from codebound.codec.sounds import BEAM, segment_frames
from codebound.data.sound_sets import open_sounds
from codebound.engine.devices import launch
from codebound.engine.recipe import LoopSettings, Recipe
from codebound.errors import InputError
from codebound.files import write_bytes, write_text
from codebound.generators.sounds import Depth, Dropout, SoundPrior, Width, Window
from codebound.priors.frame_fitting import stage_bits
from codebound.reporting import page
from codebound.reporting.statistics import ratio_interval
from codebound.runs import audio, audio_figures, audio_priors, labels, report_parts
from codebound.runs.audio_tokenise import audio_model_folder, read_split
from codebound.runs.kinds import EvaluationOptions, Preparation, RunKind
from codebound.runs.run import check_finished, is_run, kind_of, load_settings
from codebound.tasks.prior import TokenOptimization
from codebound.tasks.sound_prior import (
    CropCodes,
    RowCodes,
    SoundCodes,
    SoundPriorTask,
    stage_entropies,
)
from codebound.tokenizers.audio import DEFAULT_SPEECH, AudioTokenizer

MODEL, TOKENIZER = "model", "tokenizer"  # folders in a run: it can be moved away from the tokenizer's own
PLAYED, PLAYED_SECONDS = 3, 4.0  # samples of a run

# Where a figure stands in final_metrics.json, its label, how it is written, and its limit. An index is a token.
ROWS: tuple[labels.Row, ...] = (
    (("held_out", "bits_per_token"), "bits per index", "{:.3f}", "–"),
    (("held_out", "integer_bits"), "the same by the tokenizer's integer prior", "{:.3f}", "–"),
    (("held_out", "order_zero_bits"), "the same by each index's frequency alone", "{:.3f}", "–"),
    (("held_out", "nominal_bits"), "the same by log₂ K", "{:.3f}", "–"),
    (("held_out", "kbit"), "kbit/s", "{:.3f}", "–"),
    (("held_out", "integer_kbit"), "the same by the tokenizer's integer prior", "{:.3f}", "–"),
)


class Settings(LoopSettings, TokenOptimization):
    """All that decides a run's numbers, but for tokenizer, sound and machine.

    Attributes:
        tokenizer: the folder of its run or of its model, or `default-speech`.
        data: sound, or the folder of a tokenised set; by default what the tokenizer's run was trained on.
        prior: one index after the other; there is no other kind for sound.
        width, depth, heads, hidden, dropout, window: as `SoundPrior`.
        held_out: as many times 2 seconds of recordings judge it, about, at most.
    """

    kind: Literal["sound-prior"] = "sound-prior"
    tokenizer: str = ""
    data: str | None = None
    prior: Literal["autoregressive"] = "autoregressive"
    width: Width = 128
    depth: Depth = 4
    heads: Width = 4
    hidden: Width = 192
    dropout: Dropout = 0.0
    window: Window = 128
    held_out: int = Field(default=audio_priors.JUDGED, ge=1)
    batch_size: int = Field(default=8, ge=1)
    lr: float = Field(default=2e-3, ge=0, allow_inf_nan=False)
    steps: int = Field(default=1500, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)  # by default a tenth of the run


class SoundPriorRun(RunKind[Settings]):
    """`codebound train prior RUN`, RUN being of an audio tokenizer."""

    name = "sound-prior"
    asked = "prior"
    settings = Settings
    shown = (("bits_per_token", "{:.3f} bits an index"),)
    subject = "tokenizer"

    def default_name(self, settings: Settings) -> str:
        """The tokenizer's run."""
        return f"{Path(settings.tokenizer).name or 'sound'}-prior"

    def resolved(self, settings: Settings) -> Settings:
        """The settings with the sound that the tokenizer was trained on, where they name none.

        Raises:
            InputError: no tokenizer, or one that does not say.
        """
        if not settings.tokenizer:
            raise InputError("give the run of an audio tokenizer: codebound train prior RUN")
        return settings.model_copy(update={"data": settings.data or _data_of(settings.tokenizer)})

    def prepare(self, settings: Settings) -> Preparation:
        """The tokenizer, its indices, an untrained prior, and the task of training it on them."""
        model = load_sound_model(audio_model_folder(settings.tokenizer))
        tokenizer, hashed = model.tokenizer, model.tokenizer.code_digest()
        codes = _codes(settings, model)

        # Weights depend on the seed alone.
        torch.manual_seed(settings.seed)
        names = ("width", "depth", "heads", "hidden", "dropout", "window")
        options = {name: getattr(settings, name) for name in names}
        prior = SoundPrior.of(tokenizer.frame_code, **options, tokenizer=hashed)
        every = settings.evaluate_every or max(1, settings.steps // 10)
        recipe = config.part(Recipe, settings, evaluate_every=every)
        identity = {"data": codes.digest, "tokenizer": hashed}
        return Preparation(SoundPriorTask(prior, codes, settings, model), recipe, identity)

    def finish(self, folder: Path, task: SoundPriorTask, skipped: int, step: int) -> dict[str, Any]:
        """Judge the trained prior and write it, its tokenizer and some samples; returns the figures."""
        # Judge by frames that training never saw.
        model = task.model
        result: dict[str, Any] = {
            "step": step,
            "skipped_steps": skipped,
            "data": task.codes.note,
            "frame_rate": model.tokenizer.frame_rate,
            "held_out": figures(task),
        }

        # Everything that samples are made of, in this folder.
        task.prior.save_pretrained(folder / MODEL, card=_card(task, result))
        model.tokenizer.save_pretrained(folder / TOKENIZER)
        if model.prior is not None:
            model.prior.save(folder / TOKENIZER)
        frames = max(round(PLAYED_SECONDS * model.tokenizer.frame_rate), 1)
        for number, indices in enumerate(task.prior.sample(frames, count=PLAYED).cpu()):
            made = model.tokenizer.decode(indices[None])[0].numpy()
            sound = audio.wav(audio.to_int16(made), model.tokenizer.sample_rate)
            write_bytes(folder / "sounds" / f"{number:05d}.wav", sound)
        return result

    def evaluate(self, folder: Path, options: EvaluationOptions) -> dict[str, Any]:
        """The final figures of a finished run anew, also on other sound or another tokenised set."""
        settings = load_settings(folder, Settings)
        if options.data is not None:
            settings = settings.model_copy(update={"data": options.data})
        prior, _ = load_run(folder)
        model = load_sound_model(folder / TOKENIZER)
        codes = _codes(settings, model)
        task = SoundPriorTask(prior.to(launch(options.device).device), codes, settings, model)
        return {"data": task.codes.note, "held_out": figures(task)}

    def report(self, folders: Sequence[Path], page_path: Path | None) -> Path:
        """One page for all of these runs: figures, sounds to listen to, curves."""
        runs, page_path = report_parts.summaries(folders), report_parts.page_of(folders, page_path)
        for folder, run in zip(folders, runs, strict=True):
            run["sounds"] = audio_figures.players(folder)
        head, *rows = self.table({run["name"]: run["final"] for run in runs})
        curves = report_parts.curves(
            runs, ("bits_per_token", "Held out, with averaged weights", "bits per index")
        )
        text = page.render("runs/sound_prior_report.html.j2", runs=runs, head=head, rows=rows, curves=curves)
        write_text(page_path, text)
        return page_path

    def table(self, figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
        """A row for each figure."""
        return labels.table(figures, ROWS)

    def score(self, figures: Mapping[str, Any]) -> str:
        """Bits per index of held-out sound."""
        return f"{labels.written(labels.look_up(figures, ('held_out', 'bits_per_token')), '{:.3f}')} bits an index"


KIND = SoundPriorRun()


def load_run(folder: Path) -> tuple[SoundPrior, AudioTokenizer]:
    """Prior and tokenizer of a finished run, which belong together.

    Raises:
        InputError: not a finished run of a prior of sound, or a tokenizer of other codes than it was trained on.
    """
    check_finished(folder)
    if (kind := kind_of(folder).name) != KIND.name:
        raise InputError(f"{folder} is a run of kind {kind}; {KIND.name} is accepted")
    prior = SoundPrior.from_pretrained(folder / MODEL)
    tokenizer = AudioTokenizer.from_pretrained(folder / TOKENIZER)
    prior.check_tokenizer(tokenizer.code_digest())
    return prior, tokenizer


def figures(task: SoundPriorTask) -> dict[str, Any]:
    """What the prior reaches on held-out recordings, beside what there is without it; each rate is of all stages, each
    interval over segments as those of a file."""
    model, tokenizer = task.model, task.model.tokenizer
    lengths = segment_frames(model)
    indices = np.concatenate(list(task.codes.held_out))
    stages = indices.shape[1]
    found_bits = [row.double().numpy() for row in task.held_out_bits()]
    bits = np.concatenate(found_bits)
    parts = [part for row in found_bits for part in _segments(row, *lengths)]
    spread = ratio_interval([part.sum() for part in parts], [part.size for part in parts])
    low, high = (spread.low, spread.high) if spread.known else (None, None)
    mean = float(bits.mean())
    per_second = stages * tokenizer.frame_rate / 1000
    nominal = float(np.log2(tokenizer.codebook_sizes).mean())
    found: dict[str, Any] = {
        "frames": len(indices),
        "bits_per_token": mean,
        "bits_per_token_low": low,
        "bits_per_token_high": high,
        "order_zero_bits": float(np.mean(stage_entropies(indices, tokenizer.codebook_sizes[0]))),
        "nominal_bits": nominal,
        "kbit": mean * per_second,
        "by_stage": [round(float(value), 3) for value in bits.mean(0)],
    }

    # The integer prior begins anew with each segment of a recording, as it does in a file.
    if model.prior is not None:
        segments = [part for row in task.codes.held_out for part in _segments(row, *lengths)]
        by_stage = stage_bits(model.prior, segments, tokenizer.frame_code)
        integer = float(by_stage.mean())
        found |= {
            "integer_bits": integer,
            "integer_kbit": integer * per_second,
            "integer_by_stage": [round(float(value), 3) for value in by_stage],
        }
    return found


def _codes(settings: Settings, model: SoundModel) -> SoundCodes:
    """What the prior learns from.

    Raises:
        InputError: no data for a model without its run, or codes of another tokenizer.
    """
    # A tokenised set holds the indices themselves; they must be this tokenizer's.
    data, tokenizer = settings.data, model.tokenizer
    frames = segment_frames(model)[0]
    if data is not None and (Path(data) / "data").is_dir():
        folder, own = Path(data), tokenizer.code_digest()
        splits = [read_split(folder, split) for split in ("train", "test")]
        if wrong := [codes for codes, _ in splits if codes != own]:
            raise InputError(
                f"data={data} has indices of the codes {wrong[0]}; the tokenizer given has {own}"
            )
        (_, train), (_, test) = splits
        ends = np.cumsum([len(row) for row in test])
        left = [settings.held_out * frames - int(end) + len(row) for row, end in zip(test, ends, strict=True)]
        held_out = [row[:most] for row, most in zip(test, left, strict=True) if most > 0]
        note = f"{len(train):,} rows of {folder.name}"
        return RowCodes(train, held_out, settings.window, note)

    # Sound; resolved settings say which.
    sounds = open_sounds(data or _data_of(settings.tokenizer), tokenizer.sample_rate)
    recordings = audio_priors.held_out_recordings(sounds, tokenizer, settings.held_out * frames)
    return CropCodes(tokenizer, sounds, recordings, settings.window, BEAM)


def _segments(recording: np.ndarray, length: int, longest: int) -> list[np.ndarray]:
    """A recording's frames in pieces as a file's: each of a length, the last one up to the longest."""
    cuts = []
    while len(recording) > longest:
        cuts.append(recording[:length])
        recording = recording[length:]
    return [*cuts, recording]


def _data_of(source: str) -> str:
    """The sound that a tokenizer was trained on.

    Raises:
        InputError: a model's folder, which does not say.
    """
    if source == DEFAULT_SPEECH:
        return audio.DEFAULT_DATA
    folder = Path(source)
    if not is_run(folder):
        raise InputError(f"tokenizer={source} is a model without its run: say what to learn from with --data")
    return audio.sound_of(folder)


def _card(task: SoundPriorTask, result: Mapping[str, Any]) -> str:
    """The text of a model card: what the prior is of, how it was trained, and a table of its figures."""
    held_out = result["held_out"]
    rows = [
        f"| {label} | {form.format(held_out[path[-1]])} |"
        for path, label, form, _ in ROWS
        if path[-1] in held_out
    ]
    return "\n".join(
        [
            f"Trained by `codebound train prior` for {result['step']:,} steps on indices of {result['data']}, by the "
            f"codes {task.prior.tokenizer}. On {held_out['frames'] / result['frame_rate']:.0f} s of held-out sound:",
            "",
            "| figure | value |",
            "|---|---|",
            *rows,
        ]
    )

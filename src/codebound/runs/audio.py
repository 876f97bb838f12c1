"""The run of an audio tokenizer: from its settings to a model with figures, sounds to listen to and a report."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from codebound import config
from codebound.data.sound_output import write_wav
from codebound.data.sound_sets import open_sounds
from codebound.data.speech import Clip
from codebound.engine.devices import launch
from codebound.engine.recipe import LoopSettings, Recipe
from codebound.errors import InputError
from codebound.evaluate import sounds as evaluation
from codebound.files import write_bytes, write_text
from codebound.reporting import page
from codebound.runs import audio_figures, labels, report_parts
from codebound.runs.kinds import EvaluationOptions, Preparation, RunKind
from codebound.runs.run import check_finished, is_run, load_settings
from codebound.sound.resampling import LOUDEST
from codebound.tasks.audio import AudioTask
from codebound.tasks.audio_adversarial import (
    AudioAdversarialOptimization,
    AudioAdversarialTask,
    untrained_discriminator,
)
from codebound.tokenizers import pretrained
from codebound.tokenizers.audio import BLOCK, CONTEXT, AudioTokenizer
from codebound.tokenizers.audio_config import (
    MOST_BLOCK,
    RATES,
    NetworkConfig,
    NetworkSizes,
    SeanetConfig,
    SeanetSizes,
)
from codebound.tokenizers.audio_fitting import FrameCodeSettings

DEFAULT_DATA = "speech"
OF_CODE = (
    "whitening",
    "iterations",
    "fit_frames",
)  # what the codes of a run were fitted by, besides their sizes
SEANET_BLOCK = 10  # frames, its delay, unless it looks at more
PLAYED = 3  # held-out recordings that a report plays


class Settings(LoopSettings, AudioAdversarialOptimization, FrameCodeSettings, NetworkSizes, SeanetSizes):
    """All that decides a run's numbers, but for the sound itself and the machine.

    Attributes:
        run: a finished run, or the folder of an audio tokenizer, or `default-speech`: its transform and codebooks are
            kept as they are, and a decoder for them is trained; with them come the sizes, which no setting may
            contradict, and a run's sound.
        fresh: begin that decoder anew, by the sizes of these settings, and not from the earlier one.
        data: sound; by default that of `run`, or speech.
        network: "spectral": a transform of whole numbers, fitted codebooks and a network behind them, of `width`,
            `hidden`, `blocks` and `kernel`. "seanet": a network of `channels`, `strides`, whose product is the hop,
            `units` and `causal`, from samples to samples, and codebooks that learn with it. Sizes of the one are
            refused with the other.
        block: frames that are decoded at a time (and by a Seanet encoded); by default 50, for a Seanet 10, or as many
            as it looks at.
    """

    kind: Literal["audio"] = "audio"
    run: str | None = None
    fresh: bool = False
    data: str | None = None
    sample_rate: int = Field(default=16_000, ge=RATES[0], le=RATES[1])
    network: Literal["spectral", "seanet"] = "spectral"
    block: int | None = Field(default=None, ge=1, le=MOST_BLOCK)
    batch_size: int = Field(default=8, ge=1)
    steps: int = Field(default=2000, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)  # by default a tenth of the run

    @model_validator(mode="after")
    def _in_use(self) -> Settings:
        """What the chosen network has no use for is refused; the hop of a Seanet is what its strides make."""
        own = type(self).model_fields
        unused = (
            [*NetworkSizes.model_fields, "whitening"]
            if self.network == "seanet"
            else [*SeanetSizes.model_fields, "commitment"]
        )
        for name in unused:
            if (value := getattr(self, name)) != own[name].default:
                raise ValueError(f"{name}={value} does nothing with network={self.network}; leave it out")
        if self.fresh and self.run is None:
            raise ValueError("fresh=True does nothing without a run, whose decoder would go on")
        if self.network == "seanet":
            hop = math.prod(self.strides)
            if "hop" not in self.model_fields_set:
                object.__setattr__(self, "hop", hop)  # frozen, and not a value that was given
            elif self.hop != hop:
                raise ValueError(f"hop={self.hop}: the strides {list(self.strides)} make {hop}; leave it out")
        elif self.hop % 2:
            raise ValueError(f"hop={self.hop}: a transform takes an even number")
        return self


class AudioRun(RunKind[Settings]):
    """`codebound train audio`, with RUN: a decoder for the codes of that run."""

    name = "audio"
    settings = Settings
    shown = (("mel", "mel {:.3f}"), ("si_sdr", "SI-SDR {:.1f} dB"))
    subject = "run"

    def default_name(self, settings: Settings) -> str:
        """The run that it goes on from, or the kind of data."""
        if settings.run is not None:
            return f"{Path(settings.run).name}-audio"
        return f"audio-{(settings.data or DEFAULT_DATA).partition(':')[0]}"

    def resolved(self, settings: Settings) -> Settings:
        """The settings with sizes and sound of the run whose codes they keep; `data` may be another set.

        Raises:
            InputError: no run of an audio tokenizer that is finished, and no folder of one, or a setting that
                contradicts it.
        """
        if settings.run is not None:
            settings = _of_earlier(settings, earlier_tokenizer(settings.run))
        return settings if settings.data else settings.model_copy(update={"data": DEFAULT_DATA})

    def prepare(self, settings: Settings) -> Preparation:
        """Sound, a tokenizer, and the task of training it.

        Raises:
            InputError: what the reader of the sound refuses.
        """
        earlier = None if settings.run is None else earlier_tokenizer(settings.run)
        sounds = open_sounds(settings.data or DEFAULT_DATA, settings.sample_rate)
        every = settings.evaluate_every or max(1, settings.steps // 10)
        recipe = config.part(Recipe, settings, evaluate_every=every)
        identity = {"data": sounds.digest}

        # Weights depend on the seed and the earlier run alone.
        torch.manual_seed(settings.seed)
        code = config.part(FrameCodeSettings, settings)
        if earlier is None or settings.fresh:
            tokenizer = untrained(settings)
        else:
            tokenizer = AudioTokenizer.from_config({**earlier.config(), "block": settings.block})
            tokenizer.load_state_dict(earlier.state_dict())
        if earlier is not None:
            identity["tokenizer"] = pretrained.digest(earlier.config(), earlier.state_dict())
            tokenizer.take_code(earlier.frame_code)

        # With a discriminator, or without.
        begun = earlier is not None
        if settings.adversarial or settings.features:
            discriminator = untrained_discriminator(settings.discriminators)
            task = AudioAdversarialTask(
                tokenizer, discriminator, sounds, settings, code, settings.steps, settings.seed, begun
            )
        else:
            task = AudioTask(tokenizer, sounds, settings, code, settings.seed, begun)
        return Preparation(task, recipe, identity)

    def finish(self, folder: Path, task: AudioTask, skipped: int, step: int) -> dict[str, Any]:
        """Judge the trained tokenizer by recordings that training never saw; write model and sounds."""
        tokenizer = task.tokenizer
        task.codes.settle()
        result: dict[str, Any] = {"step": step, "skipped_steps": skipped, "data": task.sounds.note}
        tokenizer.save_pretrained(folder / "model")  # rounds its weights: what is judged is what is written
        clips = task.sounds.judged()
        result |= judged(tokenizer, clips)
        tokenizer.save_pretrained(folder / "model", card=card(result))
        for clip in clips[:PLAYED]:
            name = clip.name.replace("/", "_").rpartition(".")[0]
            write_bytes(folder / "sounds" / f"{name}.wav", wav(clip.samples, tokenizer.sample_rate))
            for stages in evaluation.bitrates(tokenizer):
                made = evaluation.decoded(tokenizer, clip, stages)[1]
                path = folder / "sounds" / f"{name}-{tokenizer.kbit(stages):g}.wav"
                write_bytes(path, wav(to_int16(made), tokenizer.sample_rate))
        return result

    def evaluate(self, folder: Path, options: EvaluationOptions) -> dict[str, Any]:
        """The final figures of a finished run anew, also on other sound."""
        tokenizer = load_tokenizer(folder).to(launch(options.device).device)
        sounds = open_sounds(options.data or sound_of(folder), tokenizer.sample_rate)
        return {"data": sounds.note, **judged(tokenizer, sounds.judged())}

    def report(self, folders: Sequence[Path], page_path: Path | None) -> Path:
        """One page for all of these runs: figures, curves over bitrate, spectrograms, and sounds to listen to."""
        runs, page_path = report_parts.summaries(folders), report_parts.page_of(folders, page_path)
        for folder, run in zip(folders, runs, strict=True):
            run["sounds"] = audio_figures.players(folder)
            run["spectrograms"] = page.embed_bytes(audio_figures.spectrograms(folder), "png")
            run["training"] = [row for row in run["rows"] if row.get("mel") is not None]
        head, *rows = self.table({run["name"]: run["final"] for run in runs})
        curves = page.embed_bytes(audio_figures.curves(runs), "png")
        text = page.render("runs/audio_report.html.j2", runs=runs, head=head, rows=rows, curves=curves)
        write_text(page_path, text)
        return page_path

    def table(self, figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
        """A row for each figure at each bitrate."""
        rates = sorted({rate for run in figures.values() for rate in run["held_out"]}, key=float)
        named = tuple(
            (("held_out", rate, name), f"{label} at {rate} kbit/s", form, limit)
            for rate in rates
            for name, (label, form, limit) in audio_figures.NAMES.items()
        )
        return labels.table(figures, named)

    def score(self, figures: Mapping[str, Any]) -> str:
        """PESQ, or the mel distance, at the highest bitrate."""
        best = figures["held_out"][max(figures["held_out"], key=float)]
        name = "pesq" if "pesq" in best else "mel"
        return f"{audio_figures.NAMES[name][0]} {audio_figures.NAMES[name][1].format(best[name])}"


KIND = AudioRun()


def untrained(settings: Settings) -> AudioTokenizer:
    """The model of the settings, its codebooks empty; weights drawn by the caller's generator."""
    learned = settings.network == "seanet"
    sizes = SeanetConfig if learned else NetworkConfig
    network = {name: getattr(settings, name) for name in sizes.model_fields if name != "kind"}
    names = ("sample_rate", "hop", "dim", "stages", "codebook_size")
    usual = max(SEANET_BLOCK, SeanetConfig(**network).reach) if learned else BLOCK
    block = settings.block or usual
    return AudioTokenizer.from_config(
        {
            **{name: getattr(settings, name) for name in names},
            "network": {**network, "kind": "seanet"} if learned else network,
            "block": block,
            "context": min(CONTEXT, block),
        }
    )


def earlier_tokenizer(source: str) -> AudioTokenizer:
    """The tokenizer of a finished run, of a model's folder, or `default-speech`.

    Raises:
        InputError: none of these.
    """
    folder = Path(source)
    return load_tokenizer(folder) if is_run(folder) else AudioTokenizer.from_pretrained(source)


def _of_earlier(settings: Settings, earlier: AudioTokenizer) -> Settings:
    """The settings with an earlier tokenizer's rate, codes and, if its decoder goes on, network; and its run's sound,
    where they name no other.

    Raises:
        InputError: a decoder that is to go on, of a tokenizer that has none; a tokenizer without a transform.
    """
    if earlier.seanet is not None or settings.network != "spectral":
        raise InputError(
            f"run={settings.run}: a Seanet's codebooks learn with it, so that no decoder alone is trained for them; a "
            "spectral tokenizer and network=spectral are accepted"
        )
    described = earlier.config()
    folder = Path(settings.run or "")
    fitted = load_settings(folder, Settings) if is_run(folder) else Settings()

    # Its codes, and how they were fitted; the network, where that goes on.
    values = {name: described[name] for name in ("sample_rate", "hop", "dim", "stages", "codebook_size")}
    values |= {name: getattr(fitted, name) for name in OF_CODE}
    if not settings.fresh:
        if described["network"] is None:
            raise InputError(f"run={settings.run} has no network to go on from; give fresh=true")
        values |= {**described["network"], "block": described["block"]}
    values["data"] = fitted.data
    return config.taken_over(settings, values, f"run={settings.run}", own=("data", "block"))


def sound_of(folder: Path) -> str:
    """The sound that a run was trained on."""
    return load_settings(folder, Settings).data or DEFAULT_DATA


def load_tokenizer(folder: Path) -> AudioTokenizer:
    """The tokenizer of a finished run.

    Raises:
        InputError: not a run's folder, or a run that is not finished.
    """
    check_finished(folder)
    return AudioTokenizer.from_pretrained(folder / "model")


def judged(tokenizer: AudioTokenizer, clips: Sequence[Clip]) -> dict[str, Any]:
    """Figures at a quarter, half and all of the stages, by nominal kbit/s."""
    rows = {
        f"{tokenizer.kbit(stages):g}": evaluation.held_out_figures(tokenizer, clips, stages, listeners=True)
        for stages in evaluation.bitrates(tokenizer)
    }
    seconds = sum(len(clip.samples) for clip in clips) / tokenizer.sample_rate
    return {
        "codebook_sizes": list(tokenizer.codebook_sizes),
        "clips": len(clips),
        "seconds": seconds,
        "held_out": rows,
    }


def card(result: Mapping[str, Any]) -> str:
    """The text of a model card: how the model was trained, and a table of its figures."""
    names = [name for name in audio_figures.NAMES if name in next(iter(result["held_out"].values()))]
    rows = [
        f"| {rate} | " + " | ".join(audio_figures.NAMES[name][1].format(row[name]) for name in names) + " |"
        for rate, row in result["held_out"].items()
    ]
    head = f"| kbit/s before coding | {' | '.join(audio_figures.NAMES[name][0] for name in names)} |"
    return "\n".join(
        [
            f"Trained by `codebound train audio` for {result['step']:,} steps on {result['data']}. On "
            f"{result['clips']} held-out recordings, {result['seconds']:.0f} s:",
            "",
            head,
            "|---" * (len(names) + 1) + "|",
            *rows,
        ]
    )


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples in [−1, 1] as 16-bit ones."""
    return np.clip(np.rint(samples * float(LOUDEST)), -LOUDEST, LOUDEST - 1).astype(np.int16)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of one channel."""
    stream = io.BytesIO()
    write_wav(stream, iter([samples[:, None]]), len(samples), rate, 1)
    return stream.getvalue()

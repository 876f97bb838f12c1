"""A set of sound as indices: a Parquet file for each split with a card, as the package datasets opens them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from jaxtyping import Int64

from codebound import config
from codebound.codec.sound_model import SoundModel, load_sound_model
from codebound.codec.sounds import BEAM
from codebound.data.sound_sets import open_sounds
from codebound.data.speech import Clip
from codebound.errors import InputError
from codebound.files import replacing, write_text
from codebound.runs.folder import RunFolder
from codebound.sound.resampling import LOUDEST
from codebound.tokenizers.audio import DEFAULT_SPEECH, audio_folder
from codebound.tokenizers.pretrained import DEFAULT_NAME

STUDY = "tokenize-sound"
META = "codes"  # in a file's metadata: `AudioTokenizer.code_digest`
SCHEMA = pyarrow.schema(
    [
        ("key", pyarrow.string()),
        ("samples", pyarrow.int64()),
        ("frames", pyarrow.int32()),
        ("indices", pyarrow.list_(pyarrow.int32())),
    ]
)
CARD = """---
configs:
- config_name: default
  data_files:
  - {{split: train, path: data/train.parquet}}
  - {{split: test, path: data/test.parquet}}
---
# {name}

Recordings of `{data}` as indices of the audio tokenizer `{model}`, written by `codebound tokenize`: {note}. One row a
recording at {rate:,} samples a second; split `test`: those that a run on this set never sees.

- `key`: the recording's file. `samples`: how many it has. `frames`: {frame_rate:g} a second, and one more.
- `indices`: frame by frame, the {stages} stages of a frame together, each from 0 to {last}.

```python
import numpy as np
from datasets import load_dataset

row = load_dataset("{name}", split="test")[0]
indices = np.array(row["indices"]).reshape(row["frames"], {stages})     # tokenizer.decode takes them as a batch of one
```
"""


class SoundTokeniseSettings(config.Settings):
    """All that decides the indices but the recordings and the model."""

    data: str


class SoundSplit(NamedTuple):
    """What a split holds: recordings, their seconds, the bytes of its file."""

    recordings: int
    seconds: float
    bytes: int


def tokenise_sounds(
    source: str, data: str, folder: Path, progress: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, SoundSplit]:
    """Write the indices of every recording of a set to `data/train.parquet` and `data/test.parquet`, each whole.

    What is finished is not written again: an interrupted call is taken up by the same one, split by split.

    Args:
        source: a finished run's folder, a model's, or `default-speech`.
        data: as `data.sound_sets.open_sounds`.
        folder: a new one, or that of an earlier call with the same data, recordings and model.
        progress: called with recordings done and recordings in all.

    Raises:
        InputError: no model or no such set; a folder that holds something else (the differences are named).
    """
    model = load_sound_model(audio_model_folder(source))
    tokenizer = model.tokenizer
    sounds = open_sounds(data, tokenizer.sample_rate)
    identity = {"model": model.digest().hex(), "recordings": sounds.digest}
    RunFolder.open(folder, STUDY, SoundTokeniseSettings(data=data), identity)

    # Only a split that is not there is written.
    splits = {"train": sounds.train, "test": sounds.held_out}
    done, of = 0, sum(map(len, splits.values()))
    paths = {split: folder / "data" / f"{split}.parquet" for split in splits}
    for split, clips in splits.items():
        if paths[split].exists():
            done += len(clips)
            progress(done, of)
            continue
        rows = []
        for clip in clips:
            rows.append(_row(clip, model))
            done += 1
            progress(done, of)
        with replacing(paths[split]) as temporary:
            schema = SCHEMA.with_metadata({META: tokenizer.code_digest()})
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), temporary)

    # Figures come from the files themselves, whichever call wrote them.
    found = {split: _figures(path, tokenizer.sample_rate) for split, path in paths.items()}
    card = CARD.format(
        name=folder.resolve().name,
        data=data,
        model=model.digest().hex(),
        note=sounds.note,
        rate=tokenizer.sample_rate,
        frame_rate=tokenizer.frame_rate,
        stages=len(tokenizer.codebook_sizes),
        last=tokenizer.codebook_sizes[0] - 1,
    )
    write_text(folder / "README.md", card)
    return found


def _figures(path: Path, sample_rate: int) -> SoundSplit:
    """What a file holds."""
    samples = pyarrow.parquet.read_table(path, columns=["samples"])["samples"].to_numpy()
    return SoundSplit(len(samples), float(samples.sum()) / sample_rate, path.stat().st_size)


def is_of_sound(source: str) -> bool:
    """Whether a run, a model's folder or a name stands for an audio tokenizer; `default` is that of pictures."""
    if source in (DEFAULT_SPEECH, DEFAULT_NAME):
        return source == DEFAULT_SPEECH
    config = audio_model_folder(source) / "config.json"
    return config.is_file() and '"AudioTokenizer"' in config.read_text(encoding="utf-8")


def audio_model_folder(source: str) -> Path:
    """The folder of the model of a finished run, of a model, or of `default-speech`."""
    inner = Path(source) / "model"
    return inner if (inner / "config.json").is_file() else Path(audio_folder(source))


def read_split(folder: Path, split: str) -> tuple[str, list[Int64[np.ndarray, "_ q"]]]:
    """What names the codes of a split, and the indices of its recordings.

    Raises:
        InputError: no such file, a damaged one, one without recordings, or one that `codebound tokenize`, of this
            version, did not write.
    """
    path = folder / "data" / f"{split}.parquet"
    try:
        table = pyarrow.parquet.read_table(path, columns=["frames", "indices"])
        codes = (table.schema.metadata or {}).get(META.encode(), b"").decode("ascii")
        frames = table["frames"].to_numpy()
        rows = [row.values.to_numpy().astype(np.int64) for chunk in table["indices"].chunks for row in chunk]
        found = [row.reshape(count, -1) for row, count in zip(rows, frames, strict=True)]
    except (OSError, pyarrow.ArrowException, KeyError, ValueError) as error:
        raise InputError(f"data={folder}: {path.name} can't be read as indices of sound: {error}") from None
    if not codes:
        raise InputError(
            f"data={folder}: {path.name} does not say which codes its indices are of; an earlier version wrote it: "
            "run codebound tokenize again"
        )
    if len({row.shape[1] for row in found}) != 1:
        raise InputError(
            f"data={folder}: {path.name} has {len(found)} recordings; at least one, all of as many stages, are needed"
        )
    return codes, found


def _row(clip: Clip, model: SoundModel) -> dict[str, object]:
    """One recording."""
    wave = torch.from_numpy(clip.samples.astype(np.float64) / LOUDEST)[None]
    indices = model.tokenizer.encode(wave, beam=BEAM)[0].numpy()
    return {
        "key": clip.name,
        "samples": len(clip.samples),
        "frames": len(indices),
        "indices": indices.reshape(-1).astype(np.int32),
    }

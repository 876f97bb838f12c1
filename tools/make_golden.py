"""Write tests/codec/golden, golden_pictures and golden_sounds: files that every later version must decode, with what is
in them.

    .venv/bin/python tools/make_golden.py

Run it for a new format version or mode only; a file that is there is never written again.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "codec"))

from samples import grid, random_prior  # noqa: E402

from codebound.codec import (  # noqa: E402
    SoundModel,
    SoundWriter,
    compress,
    compress_indices,
    decompress,
    load_sound_model,
)
from codebound.codec.sounds import sound_indices  # noqa: E402
from codebound.coding.container import Mode  # noqa: E402
from codebound.data.images import photographs  # noqa: E402
from codebound.priors.frame_fitting import FrameFitSettings, fit_frame_prior  # noqa: E402
from codebound.sound.frames import FrameCode  # noqa: E402
from codebound.tokenizers.audio import AudioTokenizer, NetworkConfig  # noqa: E402

FOLDER = ROOT / "tests" / "codec" / "golden"
CASES = {  # codebook sizes, height, width
    "two": ((2,), 9, 14),
    "seven": ((7,), 1, 40),
    "byte": ((256,), 12, 16),
    "one-digit": ((512,), 16, 7),
    "two-digits": ((1000,), 13, 13),
    "largest": ((65_536,), 10, 11),
    "residual": ((64, 64, 64), 8, 9),
    "unequal": ((5, 700, 256), 7, 8),
}


PICTURES = ROOT / "tests" / "codec" / "golden_pictures"
SOUNDS = ROOT / "tests" / "codec" / "golden_sounds"


def pictures() -> dict[str, tuple[np.ndarray, int]]:
    """Pictures and the qualities that they are written with."""
    photo, other = (each.pixels for each in photographs("held_out")[:2])
    rng = np.random.default_rng(6)
    patches = rng.integers(0, 256, (2, 3, 3)).astype(np.uint8)
    return {
        "colour": (photo[200:235, 160:211], 40),
        "grey": (other[200:233, 190:219, 1:2].repeat(3, axis=2), 75),
        "sharp": (rng.choice(np.array([0, 90, 255], dtype=np.uint8), (13, 22, 3)), 95),
        "patches": (patches.repeat(17, axis=0).repeat(16, axis=1), 5),
    }


def sound_model() -> SoundModel:
    """A small audio tokenizer whose network does something, and a prior fitted to noise."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(32, 8)))[0]
    code = FrameCode(
        32,
        np.full(32, 40.0, dtype=np.float32),
        np.rint(axes * 1024).astype(np.int16),
        rng.integers(-127, 128, (4, 16, 8)).astype(np.int8),
        np.array([60, 40, 20, 10], dtype=np.int32),
    )
    torch.manual_seed(0)
    network = NetworkConfig(width=8, hidden=16, blocks=2, kernel=3)
    tokenizer = AudioTokenizer(code, network=network, block=20, context=6)
    torch.nn.init.normal_(tokenizer.network.out.weight, std=0.05)
    noise = np.rint(rng.normal(0, 4000, (20, 6400))).clip(-32768, 32767)
    segments = tokenizer.encode(torch.from_numpy(noise / 32768))[:, :200].numpy()
    return SoundModel(tokenizer, fit_frame_prior(segments, code, FrameFitSettings(steps=150, hidden=16)))


def sounds(model: SoundModel) -> None:
    """Files of noise, and the samples and indices of each."""
    samples = np.rint(np.random.default_rng(1).normal(0, 4000, (2, 6000))).clip(-32768, 32767)
    np.save(SOUNDS / "samples.npy", samples.astype(np.int16))
    cases = {
        "mono": (samples[:1], 16_000, 4, model),
        "stereo": (samples, 44_100, 3, model),
        "alike": (samples[[0, 0]], 8_000, 2, model),
        "slow": (samples[:1], 11_025, 1, model),
    }
    for name, (given, rate, stages, chosen) in cases.items():
        writer = SoundWriter(rate, len(given), model=chosen, bitrate=2.0 * stages)
        data = writer.push(given) + writer.finish()
        (SOUNDS / f"{name}.cbd").write_bytes(data)
        np.save(SOUNDS / f"{name}.npy", sound_indices(data, chosen).astype(np.uint8))


def main() -> None:
    rng = np.random.default_rng(6)
    for name, (sizes, height, width) in CASES.items():
        prior = random_prior(sizes, seed=6)
        indices = grid(rng, height, width, sizes)
        folder = FOLDER / name
        if folder.exists():
            continue
        prior.save(folder)
        (folder / "indices.json").write_text(json.dumps(indices.tolist(), separators=(",", ":")) + "\n")
        for mode in Mode:
            data = compress_indices(indices, sizes, prior=prior, modes=[mode])
            (folder / f"{mode.name.lower()}.cbd").write_bytes(data)

    # Pictures with their decoded pixels.
    for name, (pixels, quality) in pictures().items():
        path = PICTURES / f"{name}.cbd"
        if not path.exists():
            data = compress(pixels, quality=quality)
            path.write_bytes(data)
            Image.fromarray(decompress(data)).save(path.with_suffix(".png"), optimize=True)

    # Sounds, with a model of their own.
    if not SOUNDS.exists():
        model = sound_model()
        model.tokenizer.save_pretrained(SOUNDS / "model")
        model.prior.save(SOUNDS / "model")
        sounds(load_sound_model(SOUNDS / "model"))


if __name__ == "__main__":
    main()

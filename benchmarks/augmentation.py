"""Which augmentations help a tokenizer: PSNR of held-out pictures beside that without any, for few and many pictures.

    OMP_NUM_THREADS=1 python benchmarks/augmentation.py --seeds 3

Fashion-MNIST; every arm of a seed begins from the same weights. Differences are paired by seed, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import math

import torch

from codebound.data.augment import Augmentation
from codebound.data.image_sets import FixedPictures, LabelledPictures
from codebound.data.labelled import FASHION_MNIST, fashion_mnist
from codebound.engine.recipe import Recipe
from codebound.quantize import VectorQuantizer
from codebound.quantize.init import KMeans
from codebound.quantize.revival import Resample
from codebound.reporting.statistics import mean_interval
from codebound.studies.framework.training import train_through
from codebound.tasks.tokenizer import TokenizerOptimization, TokenizerTask
from codebound.tokenizers import ImageTokenizer
from codebound.tokenizers.opening import reproduced

ARMS = {
    "none": Augmentation(),
    "flip 0.5": Augmentation(flip=0.5),
    "shift 2": Augmentation(shift=2),
    "turn 10": Augmentation(turn=10.0),
    "recolour 0.5": Augmentation(recolour=0.5),
    "flip 0.5, shift 2": Augmentation(flip=0.5, shift=2),
}
COUNTS = (300, 60_000)  # pictures to train on
HELD_OUT = 1024


def main() -> None:
    """Print a row for each arm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    whole = fashion_mnist(FASHION_MNIST, HELD_OUT)
    assert whole.train_labelled is not None
    assert whole.test_labelled is not None

    for count in COUNTS:
        train = LabelledPictures(*(part[:count] for part in whole.train_labelled))
        images = FixedPictures("fashion-mnist", "", train, whole.test_labelled, HELD_OUT)
        found = {
            name: [psnr(images, how, seed, options.steps) for seed in range(options.seeds)]
            for name, how in ARMS.items()
        }
        print(f"{count:,} pictures, {options.steps:,} steps of 64, {options.seeds} seeds")
        for name, values in found.items():
            own = mean_interval(values)
            gain = mean_interval(a - b for a, b in zip(values, found["none"], strict=True))
            print(
                f"  {name:18} {own.mean:6.2f} dB   {gain.mean:+.2f} dB [{gain.low:+.2f}, {gain.high:+.2f}]",
                flush=True,
            )


def psnr(images: FixedPictures, how: Augmentation, seed: int, steps: int) -> float:
    """PSNR of the held-out pictures after a training."""
    torch.manual_seed(seed)
    quantizer = VectorQuantizer(16, 256, init=KMeans(), revival=Resample(), seed=seed)
    tokenizer = ImageTokenizer(quantizer, channels=1, width=32, depth=1, stride=4)
    task = TokenizerTask(tokenizer, images, TokenizerOptimization(**how.model_dump()))
    train_through(task, Recipe(steps=steps, seed=seed))
    error = (reproduced(tokenizer, images.held_out).double() - images.held_out.double()).square().mean()
    return 10 * math.log10(255**2 / float(error))


if __name__ == "__main__":
    main()

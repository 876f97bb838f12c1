"""Fit what both sides of wavelet files have alike, networks, tables and shifts: wavelet/model.safetensors.

    python tools/fit_wavelet.py PICTURES [--out FILE] [--steps N]

PICTURES is the folder `fit` of what `tools/fetch_pictures.py` fetched. Samples are taken from pictures coded with a
plain dead zone, then from pictures coded with what was fitted before, since an encoder chooses levels by their bits.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.numpy import save

from codebound import files
from codebound.coding.range_coder import Meter
from codebound.data.picture_reading import opened_image, whole_image
from codebound.wavelet import colours, maps, model
from codebound.wavelet.choice import Choice
from codebound.wavelet.coding import Layout, Strip, code, places_of
from codebound.wavelet.lifting import analyse
from codebound.wavelet.maps import INPUTS, PHASES
from codebound.wavelet.network import HIGHEST, LAST, LEVELS, SHIFT

SIDES = ((256, 1), (512, 1), (1024, 1))  # long sides in pixels, and how many step numbers of each
STEPS = (16, 124)  # step numbers
MOST = 700  # places of a strip that are sampled
HIDDEN = 16  # units for each orientation
UNIT = 32  # what a hidden unit's 1 is in the integer network
GROUPS = [(c, p) for c in range(model.COMPONENTS) for p in range(len(PHASES))]
COMPONENT = torch.tensor([c for c, _ in GROUPS])
DEAD = 0.62  # magnitudes grow where u passes m + DEAD − 1/2 …


class Samples(NamedTuple):
    """Of one component's phase: what was seen, and of each orientation magnitudes (as symbols), sizes in steps, and how
    many coefficients each stands for: none where a band has none; levels.
    """

    seen: np.ndarray
    symbols: np.ndarray
    sizes: np.ndarray
    weights: np.ndarray
    levels: np.ndarray


class Deadzone(Choice):
    """Levels without a table: u to ⌊u + 1 − DEAD⌋."""

    def _cheapest(self, sizes: np.ndarray, rows: np.ndarray, bits: np.ndarray) -> np.ndarray:
        return np.floor(sizes + 1 - DEAD).astype(np.int64)


class Recorder:
    """A choice of levels that writes down, phase by phase, what was chosen for which sizes."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self.chosen: list[tuple[Strip, np.ndarray, np.ndarray]] = []

    def low(self, component: int, step: int) -> np.ndarray:
        return self._choice.low(component, step)

    def choose(
        self, strip: Strip, rows: np.ndarray, frequencies: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        magnitudes, negative = self._choice.choose(strip, rows, frequencies)
        self.chosen.append((strip, magnitudes, self._choice.sizes(strip)))
        return magnitudes, negative


def pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))


def scaled(path: Path, side: int) -> np.ndarray:
    """The picture with this long side, averaged down from a larger one."""
    with opened_image(path, path.name) as image:
        return whole_image(image, path.name, side, 3)


def collect(
    folder: Path, fitted: model.WaveletModel | None, seed: int
) -> tuple[list[Samples], np.ndarray, np.ndarray]:
    """Samples of each group, and of quiet rows how often each symbol was coded and the sums for their shifts."""
    rng = np.random.default_rng(seed)
    parts: list[list[Samples]] = [[] for _ in GROUPS]
    quiet = np.zeros((model.ALL_ROWS, model.SYMBOLS))
    offsets = np.zeros((model.ALL_ROWS, model.SHIFTED, 2))
    used = fitted or blank()
    for path in pictures(folder):
        for side, count in SIDES:
            for number in rng.integers(*STEPS, count):
                pixels = scaled(path, side)
                planes = [analyse(plane) for plane in colours.planes(pixels, model.COMPONENTS)]
                chosen = Recorder((Choice if fitted else Deadzone)(planes, used))
                layout = Layout(*pixels.shape[:2], model.COMPONENTS, int(number))
                code(layout, used, Meter(), chosen)
                replay(chosen, parts, quiet, offsets, rng)
    joined = [Samples(*(np.concatenate(each, axis=-1) for each in zip(*part, strict=True))) for part in parts]
    return joined, quiet, offsets


def replay(
    recorder: Recorder, parts: list, quiet: np.ndarray, offsets: np.ndarray, rng: np.random.Generator
) -> None:
    """What each coefficient of a picture saw when it was coded."""
    known, begun = maps.Maps(model.COMPONENTS), 0
    for strip, magnitudes, sizes in recorder.chosen:
        group, phase, top, bottom, width = strip
        if begun != group.level:
            known.begin(group.height, group.width)
            begun = group.level
        there, places = np.ones(strip.shape, dtype=bool), places_of(strip)
        if places is not None:
            there[...] = False
            there.reshape(-1)[places] = True
        seen = known.seen(group, phase, top, bottom, 0, width)
        coded, size, valid = (each.reshape(3, -1) for each in (magnitudes, sizes, there))
        symbols = np.minimum(coded, model.ESCAPE)
        busy = np.zeros(coded.shape[1], dtype=bool) if seen is None else seen.any(0)
        for orientation, row in enumerate(model.quiet_rows(group, phase)):
            still = ~busy & valid[orientation]
            np.add.at(quiet, (row, symbols[orientation, still]), 1)
            for place in range(model.SHIFTED):
                found = still & (np.minimum(coded[orientation], model.SHIFTED) == place + 1)
                offsets[row, place] += (size - coded)[orientation, found].sum(), found.sum()
        if seen is not None and busy.any():
            kept = rng.permutation(np.flatnonzero(busy))[:MOST]
            parts[group.component * len(PHASES) + phase].append(
                Samples(
                    seen[:, kept].astype(np.uint16),
                    symbols[:, kept],
                    size[:, kept].astype(np.float32),
                    valid[:, kept] * np.float32(busy.sum() / len(kept)),
                    np.full(len(kept), min(group.level, LEVELS - 1)),
                )
            )
        target = known.of_phase(group, phase)[..., top:bottom, :width]
        target[...] = maps.sizes(magnitudes).reshape(target.shape)


def blank() -> model.WaveletModel:
    """A model that tells nothing."""
    arrays = {
        "first": np.zeros((len(GROUPS), INPUTS, 3, 1), np.int16),
        "first_bias": np.zeros((len(GROUPS), LEVELS, 3, 1), np.int32),
        "second": np.zeros((len(GROUPS), 3, 1), np.int16),
        "second_bias": np.zeros((len(GROUPS), 3), np.int32),
        "table": frequencies(np.ones((model.ALL_ROWS, model.SYMBOLS))),
        "shift": np.zeros((model.ALL_ROWS, model.SHIFTED), np.int8),
    }
    return model.from_arrays(arrays)


def frequencies(weights: np.ndarray) -> np.ndarray:
    """Rows of sum 2^16, of 1 and more."""
    shares = (
        np.floor(weights / weights.sum(1, keepdims=True) * ((1 << 16) - weights.shape[1])).astype(np.int64)
        + 1
    )
    shares[np.arange(len(shares)), shares.argmax(1)] += (1 << 16) - shares.sum(1)
    return shares.astype(np.uint16)


class Fit(torch.nn.Module):
    """The networks of all groups at once, and a table whose rows a coefficient's score lies between."""

    def __init__(self) -> None:
        super().__init__()
        groups = len(GROUPS)
        self.w1 = torch.nn.Parameter(0.15 * torch.randn(groups, INPUTS, 3 * HIDDEN))
        self.b1 = torch.nn.Parameter(torch.zeros(groups, LEVELS, 3 * HIDDEN))
        self.w2 = torch.nn.Parameter(0.5 * torch.randn(groups, 3, HIDDEN, 1))
        self.b2 = torch.nn.Parameter(torch.full((groups, 3, 1, 1), model.ROWS / 2))
        self.table = torch.nn.Parameter(start_table().log()[None].repeat(model.COMPONENTS, 1, 1))

    def forward(self, seen: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Scores [group, orientation, sample], in rows of the table; units are bounded as the integers are."""
        bias = torch.gather(self.b1, 1, levels[..., None].expand(-1, -1, 3 * HIDDEN))
        hidden = torch.bmm(seen / 32, self.w1).add(bias).clamp(0, HIGHEST / UNIT)
        hidden = hidden.unflatten(-1, (3, HIDDEN)).transpose(1, 2)
        return (hidden @ self.w2 + self.b2)[..., 0]

    def bits(self, scores: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        """−log2 p of each symbol, the log-probabilities taken between the two rows beside the score."""
        scores = scores.clamp(0, model.ROWS - 1.001)
        lower = scores.floor().long()
        part = scores - lower
        table = self.table.log_softmax(-1).reshape(-1, model.SYMBOLS)
        rows = COMPONENT[:, None, None] * model.ROWS + lower
        logs = torch.lerp(table[rows], table[rows + 1], part[..., None])
        return (logs.logsumexp(-1) - torch.gather(logs, -1, symbols[..., None])[..., 0]) / math.log(2)

    def integers(self) -> dict[str, np.ndarray]:
        """The networks' arrays as they are stored: rounded, and small enough to be added exactly."""
        grain = UNIT << SHIFT
        arrays = {
            "first": (self.w1 / 32 * grain).unflatten(-1, (3, -1)),
            "first_bias": (self.b1 * grain).unflatten(-1, (3, -1)),
            "second": self.w2[..., 0] * ((1 << LAST) / UNIT),
            "second_bias": self.b2[:, :, 0, 0] * (1 << LAST),
        }
        rounded = {name: value.detach().round().numpy() for name, value in arrays.items()}
        return {name: v.astype(np.int32 if "bias" in name else np.int16) for name, v in rounded.items()}


def padded(seen: np.ndarray) -> np.ndarray:
    """As many inputs as any network has."""
    return np.pad(seen, ((0, INPUTS - len(seen)), (0, 0)))


def start_table() -> torch.Tensor:
    """Laplace distributions, of scales from .06 to 25 steps."""
    scale = torch.exp(torch.linspace(math.log(0.06), math.log(25), model.ROWS))[:, None]
    magnitudes = torch.arange(model.SYMBOLS)
    table = torch.exp(-(magnitudes - 0.4).clamp_min(0) / scale) - torch.exp(-(magnitudes + 0.6) / scale)
    table[:, -1] = torch.exp(-(model.ESCAPE - 0.4) / scale[:, 0])
    return table + 1e-5


def fit(samples: list[Samples], steps: int, start: Fit | None, batch: int = 512) -> Fit:
    """Networks and table that take the fewest bits."""
    fitted = start or Fit()
    rates = (2e-3, 4e-3) if start else (4e-3, 1e-2)
    networks = [value for name, value in fitted.named_parameters() if name != "table"]
    optimizer = torch.optim.Adam(
        [{"params": networks, "lr": rates[0]}, {"params": [fitted.table], "lr": rates[1]}]
    )
    tensors = [
        [
            torch.from_numpy(np.ascontiguousarray(each))
            for each in (padded(s.seen).T, s.symbols.T, s.weights.T, s.levels)
        ]
        for s in samples
    ]
    rng, began, running = torch.Generator().manual_seed(0), time.time(), 0.0
    for step in range(steps):
        drawn = []
        for group in tensors:
            places = torch.randint(len(group[0]), (batch,), generator=rng)
            drawn.append([each[places] for each in group])
        seen, symbols, weights, levels = (torch.stack(each) for each in zip(*drawn, strict=True))
        scores = fitted(seen.float(), levels)
        weights = weights.transpose(1, 2)
        bits = (fitted.bits(scores, symbols.transpose(1, 2)) * weights).sum() / weights.sum()
        outside = torch.relu(-scores) + torch.relu(scores - model.ROWS + 1)
        optimizer.zero_grad()
        (bits + 0.01 * outside.mean()).backward()
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - step / steps)
        running += (bits.item() - running) / min(step + 1, 100)
        if step % 200 == 199:
            print(f"step {step + 1}: {running:.4f} bits, {time.time() - began:.0f} s", flush=True)
    return fitted


def assembled(
    fitted: Fit, samples: list[Samples], quiet: np.ndarray, offsets: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays of the integer model: networks, and tables and shifts counted under the rows that they give."""
    arrays = fitted.integers()
    empty = {
        "table": frequencies(np.ones_like(quiet)),
        "shift": np.zeros((len(quiet), model.SHIFTED), np.int8),
    }
    networks = model.from_arrays({**arrays, **empty}).networks
    counts, sums = quiet.copy(), offsets.copy()
    for (component, _), network, each in zip(GROUPS, networks, samples, strict=True):
        for level in range(1, LEVELS):
            here = each.levels == level
            rows = network.rows(each.seen[:, here].astype(np.float32), level, model.ROWS)
            rows = rows + component * model.ROWS
            symbols, weights = each.symbols[:, here], each.weights[:, here]
            np.add.at(counts, (rows, symbols), weights)
            inner = (symbols > 0) & (symbols < model.ESCAPE)
            place = np.minimum(symbols, model.SHIFTED) - 1
            differences = weights * (each.sizes[:, here] - symbols)
            np.add.at(sums[..., 0], (rows[inner], place[inner]), differences[inner])
            np.add.at(sums[..., 1], (rows[inner], place[inner]), weights[inner])

    # A little of the fitted table, where there are few counts.
    smooth = np.full(counts.shape, 1 / model.SYMBOLS)
    smooth[: model.QUIET] = fitted.table.softmax(-1).detach().numpy().reshape(-1, model.SYMBOLS)
    smooth[model.QUIET :, 0] = 20
    table = frequencies(counts + 50 * smooth)
    shift = np.rint(64 * sums[..., 0] / (sums[..., 1] + 50)).astype(np.int8)
    return {**arrays, "table": table, "shift": shift}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--out", type=Path, default=Path(model.__file__).with_name("model.safetensors"))
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    torch.manual_seed(0)
    fitted, whole = None, None
    for number in range(given.rounds):
        began = time.time()
        samples, quiet, offsets = collect(given.pictures, whole, number)
        print(
            f"round {number}: {sum(s.symbols.size for s in samples):,} samples, {time.time() - began:.0f} s",
            flush=True,
        )
        fitted = fit(samples, given.steps, fitted)
        arrays = assembled(fitted, samples, quiet, offsets)
        whole = model.from_arrays(arrays)
        files.write_bytes(given.out, save(arrays))


if __name__ == "__main__":
    main()

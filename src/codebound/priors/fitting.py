"""Fit a prior to grids of indices: networks trained in float, then rounded to the integers that code files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64
from pydantic import Field as Setting
from torch import Tensor, nn

from codebound import config
from codebound.errors import InputError
from codebound.priors import digits
from codebound.priors.field import Field
from codebound.priors.grid_prior import GridPrior
from codebound.priors.network import HIGHEST, SHIFT, WIDEST, Inputs, Layer, Network

_CALIBRATION = 1 << 14  # positions that the range of activations is taken from
_ROWS = 1 << 12  # positions that are evaluated at once


class FitSettings(config.Settings):
    """How a prior is trained; each level and digit has a network of its own.

    Attributes:
        steps: of AdamW with a one-cycle rate.
        batch_size: positions per step, drawn from all grids alike.
        width: of an embedding.
        hidden: units in each of the two hidden layers.
        learning_rate: the highest.
        weight_decay: of AdamW.
        seed: of first weights and draws.
    """

    steps: int = Setting(default=4000, ge=1)
    batch_size: int = Setting(default=1024, ge=1)
    width: int = Setting(default=24, ge=1)
    hidden: int = Setting(default=96, ge=1, le=WIDEST)
    learning_rate: float = Setting(default=3e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Setting(default=1e-2, ge=0, allow_inf_nan=False)
    seed: int = 0


def fit_prior(
    grids: Sequence[Int[np.ndarray, "_ _ q"]],
    codebook_sizes: Sequence[int],
    settings: FitSettings = FitSettings(),  # noqa: B008  immutable
    *,
    progress: Callable[[int, int], None] | None = None,
) -> GridPrior:
    """A prior for grids like these; the order of the grids changes nothing but the draws.

    Args:
        grids: index grids of one tokenizer, [h, w, levels] each.
        codebook_sizes: one per level.
        progress: called with networks done and networks in all.

    Raises:
        InputError: no grid, or indices that don't fit the sizes.
    """
    # One network for each digit of each level.
    sizes = tuple(codebook_sizes)
    _check(grids, sizes)
    places = [
        (level, place) for level, size in enumerate(sizes) for place in range(len(digits.alphabets(size)))
    ]

    # Each is trained in float on all positions, then rounded to integers.
    networks: list[list[Network]] = [[] for _ in sizes]
    for done, (level, place) in enumerate(places):
        if progress is not None:
            progress(done, len(places))
        rows, values = positions(grids, sizes, level, place)
        model = _train(rows, values, Inputs(sizes, level, place), settings)
        networks[level].append(quantize(model, rows, sizes, level, place))
    if progress is not None:
        progress(len(places), len(places))
    return GridPrior(sizes, tuple(tuple(of_level) for of_level in networks))


def cross_entropy(prior: GridPrior, grids: Sequence[Int[np.ndarray, "_ _ q"]]) -> Float64[np.ndarray, " q"]:
    """−log2 of the probability that the integer networks alone give, in bits per index, of each level."""
    # Some positions at a time, as the networks' activations are large.
    _check(grids, prior.codebook_sizes)
    bits = np.zeros(len(prior.codebook_sizes))
    for level, networks in enumerate(prior.networks):
        for grid in grids:
            field = Field(grid.astype(np.int64), prior.codebook_sizes)
            for at in np.array_split(field.rows(), -(-field.height * field.width // _ROWS)):
                # Digit by digit, each predicted knowing the one before; frequencies are out of 2^16.
                neighbours = field.seen(level, at)
                prefix = np.zeros(len(at), dtype=np.int64)
                digit_values = digits.split(field.read(level, at), prior.codebook_sizes[level])
                for network, digit in zip(networks, digit_values, strict=True):
                    chances = network.frequencies(neighbours, prefix)[np.arange(len(at)), digit]
                    bits[level] += 16 * len(at) - np.log2(chances).sum()
                    prefix = digit
    return bits / sum(grid.shape[0] * grid.shape[1] for grid in grids)


def positions(
    grids: Sequence[Int[np.ndarray, "_ _ q"]], sizes: tuple[int, ...], level: int, place: int
) -> tuple[Int64[Tensor, "n c"], Int64[Tensor, " n"]]:
    """Embedding rows of all positions (`network.Inputs`), and the digit at each."""
    inputs, rows, values = Inputs(sizes, level, place), [], []
    for grid in grids:
        field = Field(grid.astype(np.int64), sizes)
        at = field.rows()
        digit_values = digits.split(field.read(level, at), sizes[level])
        prefix = digit_values[0] if place else np.zeros(len(at), dtype=np.int64)
        rows.append(inputs.rows_of(field.seen(level, at), prefix))
        values.append(digit_values[place])
    return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(values))


class FloatNetwork(nn.Module):
    """`network.Network` while it is trained: the same layers in float32, logits in nats."""

    def __init__(self, inputs: Inputs, width: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(inputs.rows, width)
        self.first = nn.Linear(inputs.count * width, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, inputs.alphabet)

    def forward(self, rows: Int64[Tensor, "n c"]) -> Tensor:
        return self.last(self.hidden(rows)[1])

    def hidden(self, rows: Int64[Tensor, "n c"]) -> tuple[Tensor, Tensor]:
        """Activations of both hidden layers."""
        first = torch.relu(self.first(self.embedding(rows).flatten(1)))
        return first, torch.relu(self.second(first))


def _train(
    rows: Int64[Tensor, "n c"], values: Int64[Tensor, " n"], inputs: Inputs, settings: FitSettings
) -> FloatNetwork:
    """A network that predicts the digits `values` from the neighbours that `rows` stand for."""
    # Weights and draws from the seed alone, the caller's generator left as it is.
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = FloatNetwork(inputs, settings.width, settings.hidden)

    # The integer network must hold its sums exactly.
    if inputs.count * settings.width > WIDEST:
        raise InputError(
            f"width is {settings.width}; at most {WIDEST // inputs.count} for a network with {inputs.count} inputs"
        )

    # AdamW with a one-cycle rate, on positions drawn from all grids alike.
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=settings.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    for _ in range(settings.steps):
        drawn = torch.randint(len(values), (settings.batch_size,), generator=generator)
        loss = nn.functional.cross_entropy(model(rows[drawn]), values[drawn])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return model


@torch.no_grad()
def quantize(
    model: FloatNetwork, rows: Int64[Tensor, "n c"], sizes: tuple[int, ...], level: int, place: int
) -> Network:
    """The integer network nearest to a trained one: int8 per output unit, activations over their range in `rows`."""
    # The steps of each layer's activations, from the largest that occurs; logits are in 1/256 bit.
    some = rows[torch.linspace(0, len(rows) - 1, min(_CALIBRATION, len(rows))).long()]
    units = [float(activation.max().clamp_min(1e-6)) / HIGHEST for activation in model.hidden(some)]
    table = model.embedding.weight.double().numpy()
    step = max(np.abs(table).max(), 1e-6) / 127
    steps = [step, *units, math.log(2) / 256]

    # Each layer in units of its inputs' step, its outputs in that of the next.
    layers = [
        quantized_layer(layer, *steps[i : i + 2])
        for i, layer in enumerate((model.first, model.second, model.last))
    ]
    embedding = np.rint(table / step).astype(np.int8)
    return Network(sizes, level, place, embedding, (layers[0], layers[1], layers[2]))


def quantized_layer(layer: nn.Linear, unit: float, target: float) -> Layer:
    """A layer whose inputs are whole multiples of `unit`, its outputs of `target`."""
    weight, bias = layer.weight.double().numpy(), layer.bias.double().numpy()
    step = np.maximum(np.abs(weight).max(-1), 1e-9) / 127
    most = np.iinfo(np.int32).max
    return Layer(
        np.rint(weight / step[:, None]).astype(np.int8),
        np.rint(np.clip(bias / (unit * step), -most, most)).astype(np.int32),
        np.rint(np.clip(unit * step / target * 2**SHIFT, 0, 2**30 - 1)).astype(np.int32),
    )


def _check(grids: Sequence[Int[np.ndarray, "_ _ q"]], sizes: tuple[int, ...]) -> None:
    if not grids:
        raise InputError("grids is empty; at least one grid of indices is needed")
    for number, grid in enumerate(grids):
        if grid.ndim != 3 or grid.shape[2] != len(sizes) or grid.size == 0:
            raise InputError(f"grid {number} is {grid.shape}; [h, w, {len(sizes)}] is accepted")
        if (grid < 0).any() or (grid >= np.array(sizes)).any():
            raise InputError(f"grid {number} has indices outside 0 … K − 1 for codebook sizes {sizes}")

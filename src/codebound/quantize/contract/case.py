"""What a check gets: copies of the quantizer under test, data for it, and words for what is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from codebound.quantize.base import CodeStats, Quantized, Quantizer

ROUNDING = 1e-5


class ContractError(AssertionError):
    """A quantizer breaks its contract; the message lists every check that failed."""


class SkipCheck(Exception):
    """A check does not apply to this quantizer; the message says why."""


@dataclass(frozen=True)
class Case:
    """A quantizer under test; whatever a check does to it happens to a copy.

    `exact=False` allows rounding where batches of different shape are compared: a quantizer that multiplies
    by a matrix before it searches can't promise the same bits for different batch sizes.
    """

    original: Quantizer  # as constructed, never touched
    latents: Tensor  # [n, D], to initialise from
    exact: bool = True
    seed: int = 0

    @cached_property
    def _initialised(self) -> Quantizer:
        quantizer = copy.deepcopy(self.original)
        torch.manual_seed(self.seed)
        quantizer.init_(self.latents.clone())
        return quantizer

    def fresh(self) -> Quantizer:
        """A copy as constructed, before `init_`."""
        return copy.deepcopy(self.original).train()

    def ready(self, training: bool = False) -> Quantizer:
        """A copy after `init_`."""
        return copy.deepcopy(self._initialised).train(training)

    @cached_property
    def z(self) -> Tensor:
        """A batch `[60, D]`."""
        return self.batches(1)[0]

    def batches(self, count: int, tokens: int = 60) -> list[Tensor]:
        """Batches that shrink, so that codewords move and some fall out of use, with equal tokens in each."""
        # Rows of the latents with a little noise, each batch narrower than the one before.
        generator = torch.Generator().manual_seed(self.seed + 1)
        rows = torch.randint(len(self.latents), (count, tokens), generator=generator)
        noise = torch.randn(count, tokens, self.original.dim, generator=generator) * 0.1
        widths = [1.0 / (1 + step) for step in range(count)]
        batches = [(self.latents[rows[i]] + noise[i]) * width for i, width in enumerate(widths)]

        # Some tokens are equal, as padding is that nobody masked.
        for batch in batches:
            batch[tokens // 3 : tokens // 2] = 0.0
        return batches

    @cached_property
    def initialises(self) -> bool:
        """Whether `init_` changes anything: it does not where there is no codebook."""
        return difference(state(self.fresh()), state(self.ready())) is not None

    def need_deterministic(self) -> None:
        """Skip a check that compares two training forwards where each draws its own indices."""
        quantizer = self.ready(training=True)
        draws = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            draws.append(quantizer(self.z).indices)
        if not torch.equal(*draws):
            raise SkipCheck("indices are random in training")


Check = Callable[[Case], None]


def expect(condition: bool, message: str) -> None:
    """Fail with a message that says what was expected and what came."""
    if not condition:
        raise AssertionError(message)


def expect_equal(actual: Tensor, expected: Tensor, what: str, exact: bool = True) -> None:
    """Same shape, type and values: bit for bit, or within rounding."""
    # Shape and type first, as values of other shapes can't be compared.
    expect(
        actual.shape == expected.shape,
        f"{what}: expected shape {list(expected.shape)}; got {list(actual.shape)}",
    )
    expect(actual.dtype == expected.dtype, f"{what}: expected {expected.dtype}; got {actual.dtype}")
    if _same(actual, expected, exact):
        return

    # How many values differ, and where the first one is.
    wrong = int((actual != expected).sum())
    where = (actual != expected).nonzero()[0].tolist()
    raise AssertionError(
        f"{what}: {wrong} of {actual.numel()} values differ; the first, at {where}, should be "
        f"{expected[tuple(where)].item()} and is {actual[tuple(where)].item()}"
    )


def expect_error(kind: type[Exception], naming: str, call: Callable[[], object], what: str) -> None:
    """`call` raises `kind`, and the message contains the word `naming`."""
    # The right error, with a message that names the argument.
    try:
        result = call()
    except kind as error:
        expect(
            naming in str(error),
            f"{what}: the {kind.__name__} should name {naming!r}; it says {str(error)!r}",
        )
        return
    # Another error or none is a failure that says what came instead.
    except Exception as error:
        raise AssertionError(
            f"{what}: expected {kind.__name__} naming {naming!r}; got {type(error).__name__}: {error}"
        ) from error
    raise AssertionError(
        f"{what}: expected {kind.__name__} naming {naming!r}; it returned {type(result).__name__}"
    )


def state(quantizer: Quantizer) -> dict[str, Tensor]:
    """A copy of the state dict."""
    return {name: tensor.detach().clone() for name, tensor in quantizer.state_dict().items()}


def difference(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], exact: bool = True
) -> str | None:
    """The first entry in which two state dicts differ, in words; None if they don't."""
    if actual.keys() != expected.keys():
        return f"the entries {sorted(actual.keys() ^ expected.keys())} are in one only"
    for name, tensor in expected.items():
        other = actual[name]
        if other.shape != tensor.shape or other.dtype != tensor.dtype or not _same(other, tensor, exact):
            return f"{name!r} differs"
    return None


def expect_same_state(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str, exact: bool = True
) -> None:
    """State dicts equal bit for bit, or within rounding."""
    problem = difference(actual, expected, exact)
    expect(problem is None, f"{what}: expected the same state; {problem}")


def expect_same_result(
    actual: Quantized, expected: Quantized, what: str, exact: bool = True, stats: bool = True
) -> None:
    """The same reproductions, indices, losses and statistics; losses always within rounding only."""
    expect_equal(actual.indices, expected.indices, f"{what}, indices")
    expect_equal(actual.z_q, expected.z_q, f"{what}, z_q", exact)
    expect_equal(actual.loss, expected.loss, f"{what}, loss", exact=False)
    expect(
        actual.losses.keys() == expected.losses.keys(),
        f"{what}: expected losses {sorted(expected.losses)}; got {sorted(actual.losses)}",
    )
    for name, value in expected.losses.items():
        expect_equal(actual.losses[name], value, f"{what}, losses[{name!r}]", exact=False)
    if stats:
        expect_same_stats(actual.stats, expected.stats, what, exact)


def expect_same_stats(
    actual: tuple[CodeStats, ...], expected: tuple[CodeStats, ...], what: str, exact: bool = True
) -> None:
    """The same counts and sums; float64 sums may differ in the order of adding."""
    expect(len(actual) == len(expected), f"{what}: expected {len(expected)} statistics; got {len(actual)}")
    for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
        expect_equal(a.counts, b.counts, f"{what}, stats[{i}].counts")
        expect_equal(a.sums, b.sums, f"{what}, stats[{i}].sums", exact=False)
        expect_equal(a.hits, b.hits, f"{what}, stats[{i}].hits")
        if exact:
            expect_equal(a.sketch.keys, b.sketch.keys, f"{what}, stats[{i}].sketch.keys")


def _same(actual: Tensor, expected: Tensor, exact: bool) -> bool:
    if exact or not expected.is_floating_point():
        return torch.equal(actual, expected)
    return torch.allclose(actual.double(), expected.double(), rtol=ROUNDING, atol=ROUNDING, equal_nan=True)

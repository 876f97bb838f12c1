"""Checks of state: who may change it, when, and that it does not depend on how a batch was divided."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence

import safetensors.torch as safetensors
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from codebound.errors import InputError
from codebound.quantize.base import Quantizer
from codebound.quantize.contract.case import (
    Case,
    SkipCheck,
    expect,
    expect_equal,
    expect_error,
    expect_same_state,
    state,
)


def forward_is_pure(case: Case) -> None:
    """A training forward changes no state: not alone, not before `init_`, not recomputed in a checkpoint."""
    # Neither a forward nor an encode leaves a trace in the state.
    for quantizer, what in (
        (case.ready(True), "a training forward"),
        (case.fresh(), "a forward before init_"),
    ):
        before = state(quantizer)
        quantizer(case.z)
        quantizer.encode(case.z)
        expect_same_state(state(quantizer), before, what)

    # Nor does a forward that a checkpoint runs a second time inside backward.
    quantizer = case.ready(training=True)
    before = state(quantizer)

    def block(x: Tensor) -> Tensor:
        result = quantizer(x)
        return result.z_q.square().sum() + result.loss

    # The gradient is the same with and without the checkpoint.
    gradients = []
    for recompute in (True, False):
        z = case.z.clone().requires_grad_()
        torch.manual_seed(case.seed)  # a checkpoint draws the same again
        out = checkpoint(block, z, use_reentrant=False) if recompute else block(z)
        assert isinstance(out, Tensor)
        if not out.requires_grad:
            return
        torch.autograd.backward(out)
        gradients.append(z.grad)
        expect_same_state(state(quantizer), before, "a forward and its backward, checkpointed or not")
    if isinstance(gradients[0], Tensor) and isinstance(gradients[1], Tensor):
        expect_equal(gradients[0], gradients[1], "the gradient through a checkpoint", exact=False)


def init_before_update(case: Case) -> None:
    """`update_` before `init_` raises, where `init_` does anything; eval results are no update."""
    if not case.initialises:
        raise SkipCheck("init_ changes nothing")
    quantizer = case.fresh()
    result = quantizer(case.z)
    expect_error(InputError, "init_", lambda: quantizer.update_(result), "update_ before init_")
    quantizer = case.ready()
    result = quantizer(case.z)
    expect_error(InputError, "update_", lambda: quantizer.update_(result), "update_ with an eval result")


def init_is_deterministic(case: Case) -> None:
    """Equal generators give equal codebooks, and `init_` leaves the batch alone."""
    states = []
    for _ in range(2):
        quantizer, z = case.fresh(), case.latents.clone()
        quantizer.init_(z, generator=torch.Generator().manual_seed(5))
        states.append(state(quantizer))
        expect_equal(z, case.latents, "the batch after init_")
    expect_same_state(states[1], states[0], "init_ with an equal generator")


def masked_init(case: Case) -> None:
    """`init_` with a mask begins as it does from the tokens that the mask leaves, whatever the others hold."""
    mask = torch.arange(len(case.latents)) % 5 != 2
    for filling in (1e4, float("nan")):
        alone, masked = case.fresh(), case.fresh()
        alone.init_(case.latents[mask], generator=torch.Generator().manual_seed(5))
        z = torch.where(mask.unsqueeze(-1), case.latents, filling)
        masked.init_(z, mask=mask, generator=torch.Generator().manual_seed(5))
        expect_same_state(state(masked), state(alone), f"init_ with masked tokens of {filling}")


def update_reports(case: Case) -> None:
    """The report counts valid and non-finite tokens, and NaN and Inf leave no trace in the state."""
    # A batch with two bad tokens, and the same batch without them.
    case.need_deterministic()
    z = case.z.clone()
    z[3, 0], z[11, -1] = float("nan"), float("inf")
    good = z.isfinite().all(-1)
    quantizer, clean = case.ready(training=True), case.ready(training=True)
    result = quantizer(z)
    if not result.stats:
        raise SkipCheck("no statistics: there is no codebook to update")

    # The report counts them, and the state is that of the good tokens alone.
    report = quantizer.update_(result)
    clean.update_(clean(case.z[good]))
    expect(
        report.tokens == int(good.sum()), f"report.tokens: expected {int(good.sum())}; got {report.tokens}"
    )
    expect(report.non_finite == 2, f"report.non_finite: expected 2; got {report.non_finite}")

    # A figure for each codebook.
    for name in ("revived", "window_usage", "window_perplexity"):
        length = len(getattr(report, name))
        expect(length >= 1, f"report.{name}: expected an entry per codebook; got {length}")
    expect_same_state(state(quantizer), state(clean), "an update with NaN and Inf tokens", case.exact)


def accumulation(case: Case) -> None:
    """`update_(r1, r2, r3)` is `update_` of the joined batch."""
    case.need_deterministic()
    whole, parts = case.ready(training=True), case.ready(training=True)
    for batch in case.batches(4):
        whole.update_(whole(batch))
        parts.update_(*(parts(part) for part in batch.split([17, 1, len(batch) - 18])))
    expect_same_state(state(parts), state(whole), "updates from three parts of each batch", case.exact)


def permutation(case: Case) -> None:
    """The order of the tokens in a batch does not matter to the state."""
    case.need_deterministic()
    straight, shuffled = case.ready(training=True), case.ready(training=True)
    generator = torch.Generator().manual_seed(case.seed)
    for batch in case.batches(4):
        straight.update_(straight(batch))
        shuffled.update_(shuffled(batch[torch.randperm(len(batch), generator=generator)]))
    expect_same_state(state(shuffled), state(straight), "updates from shuffled batches", case.exact)


def state_dict_round_trip(case: Case) -> None:
    """Saved and strictly loaded into one as constructed, training goes on bit for bit."""

    def through_a_file(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        file = io.BytesIO()
        torch.save(tensors, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    _round_trip(case, through_a_file, "load_state_dict")


def safetensors_round_trip(case: Case) -> None:
    """The state dict goes through safetensors, which takes no tensor twice, nor one that is a view."""
    _round_trip(case, lambda tensors: safetensors.load(safetensors.save(tensors)), "safetensors")


def _round_trip(case: Case, travel: Callable[[dict[str, Tensor]], dict[str, Tensor]], what: str) -> None:
    """Train, send the state through `travel` into a fresh quantizer, and train both on: they must stay equal."""
    batches = case.batches(6)
    first, last = batches[:3], batches[3:]  # in the midst of a window
    quantizer = case.ready(training=True)
    train(quantizer, first, case.seed)
    loaded = case.fresh()
    loaded.load_state_dict(travel(dict(quantizer.state_dict())), strict=True)
    expect_same_state(state(loaded), state(quantizer), what)
    train(quantizer, last, case.seed)
    train(loaded, last, case.seed)
    expect_same_state(state(loaded), state(quantizer), f"training continued after {what}")


def deep_copy(case: Case) -> None:
    """A deep copy trains as the original does, and shares nothing with it."""
    batches = case.batches(3)
    quantizer = case.ready(training=True)
    train(quantizer, batches[:1], case.seed)
    twin = copy.deepcopy(quantizer)
    before = state(quantizer)
    train(twin, batches[1:], case.seed)
    expect_same_state(state(quantizer), before, "the original while its copy trains")
    train(quantizer, batches[1:], case.seed)
    expect_same_state(state(twin), state(quantizer), "a copy trained as the original")


def train(quantizer: Quantizer, batches: Sequence[Tensor], seed: int) -> None:
    """A forward and an update for each batch."""
    torch.manual_seed(seed)
    for batch in batches:
        quantizer.update_(quantizer(batch))

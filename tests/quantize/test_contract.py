"""The contract on our classes, on one from outside, and on broken ones that it must catch."""

import pytest
import torch
from torch import Tensor

from codebound import VectorQuantizer, check_quantizer
from codebound.errors import InputError
from codebound.quantize import Quantized, Quantizer, UpdateReport
from codebound.quantize.contract import CHECKS, ContractError, check_two_ranks
from codebound.quantize.estimator import StopGradient
from codebound.quantize.init import Sample
from codebound.quantize.revival import Never, Resample, Split
from codebound.quantize.update import Frozen, Gradient

NAMES = [check.__name__ for check in CHECKS]
# Run once for all classes, or without the jaxtyping hook: it refuses wrong input before our code sees it.
ELSEWHERE = {"compiles", "exports", "two_ranks", "refuses_wrong_input"}
QUICK = [name for name in NAMES if name not in ELSEWHERE]

RESAMPLE, SPLIT = Resample(window=4.0, candidates=6), Split(window=4.0)
VARIANTS = {
    "default": VectorQuantizer(8, 16),
    "ema, split": VectorQuantizer(8, 16, revival=SPLIT, estimator=StopGradient()),
    "ema, resample": VectorQuantizer(8, 16, revival=RESAMPLE, seed=3),
    "ema, never": VectorQuantizer(8, 16, revival=Never(), init=Sample()),
    "gradient, resample": VectorQuantizer(5, 7, update=Gradient(), revival=RESAMPLE),
    "gradient, never": VectorQuantizer(5, 7, update=Gradient(), revival=Never(), estimator=StopGradient()),
    "gradient, split": VectorQuantizer(3, 32, update=Gradient(), revival=SPLIT),
    "frozen, never": VectorQuantizer(8, 16, update=Frozen(), revival=Never()),
    "frozen, resample": VectorQuantizer(1, 2, update=Frozen(), revival=RESAMPLE),
    "frozen, split": VectorQuantizer(16, 33, update=Frozen(), revival=SPLIT),
}


class Sign(Quantizer):
    """As a user would write it: one index out of 2^dim from the signs, no codebook, no state."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.codebook_sizes = dim, (2**dim,)
        self.register_buffer("bits", 2 ** torch.arange(dim))

    def forward(
        self, z: Tensor, *, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        self.check_input(z, mask)
        valid = z.isfinite().all(-1) if mask is None else z.isfinite().all(-1) & mask
        clean = torch.where(valid.unsqueeze(-1), z, 0)
        sign = torch.where(clean > 0, 1.0, -1.0).to(z.dtype)
        z_q = torch.where(valid.unsqueeze(-1), sign + (clean - clean.detach()), 0)
        indices = torch.where(valid, ((clean > 0) * self.bits).sum(-1), -1).unsqueeze(-1)
        return Quantized(z_q, indices, z.new_zeros((), dtype=torch.float32), {}, ())

    def encode(self, z: Tensor) -> Tensor:
        return self.forward(z).indices

    def decode(self, indices: Tensor, *, mask: Tensor | None = None) -> Tensor:
        self.check_indices(indices, mask)
        valid = torch.ones_like(indices[..., 0], dtype=torch.bool) if mask is None else mask
        flat = torch.where(valid.unsqueeze(-1), indices, 0)
        if bool(((flat < 0) | (flat >= self.codebook_sizes[0])).any()):
            raise InputError("indices out of range")
        return torch.where(valid.unsqueeze(-1), torch.where((flat & self.bits) > 0, 1.0, -1.0), 0.0)

    def init_(self, z: Tensor, *, generator: torch.Generator | None = None) -> None:
        self.check_input(z, None)

    def update_(self, *results: Quantized) -> UpdateReport:
        tokens = sum(int((result.indices[..., 0] >= 0).sum()) for result in results)
        return UpdateReport(tokens, 0, (), (), ())


@pytest.mark.parametrize("variant", VARIANTS)
def test_vector_quantizer(variant: str) -> None:
    before = {name: tensor.clone() for name, tensor in VARIANTS[variant].state_dict().items()}
    report = check_quantizer(VARIANTS[variant], checks=QUICK)
    assert report.passed == tuple(QUICK)
    assert not report.skipped
    for name, tensor in VARIANTS[variant].state_dict().items():
        assert torch.equal(tensor, before[name])  # it checked copies


@pytest.mark.untyped
@pytest.mark.parametrize("variant", ["ema, resample", "gradient, split", "frozen, never"])
def test_vector_quantizer_compiles_and_exports(variant: str) -> None:
    report = check_quantizer(VARIANTS[variant], checks=["compiles", "exports", "refuses_wrong_input"])
    assert len(report.passed) == 3


def test_two_ranks_for_all_classes() -> None:
    check_two_ranks(*VARIANTS.values(), Sign(4))


@pytest.mark.untyped
def test_a_class_from_outside() -> None:
    report = check_quantizer(lambda: Sign(4))
    assert set(report.skipped) == {"declared_jacobian", "init_before_update", "update_reports"}
    assert set(report.passed) | set(report.skipped) == set(NAMES)


def test_other_latents_and_shifted_ones() -> None:
    z = 1.0 + 1e-3 * torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    assert check_quantizer(VARIANTS["ema, resample"], z=z, checks=QUICK).passed == tuple(QUICK)


class UpdatesInForward(VectorQuantizer):
    def forward(self, z, *, mask=None, generator=None):
        result = super().forward(z, mask=mask, generator=generator)
        if self.training and bool(self.codebook.initialised):
            self.update_(result)
        return result


class InitialisesInForward(VectorQuantizer):
    def forward(self, z, *, mask=None, generator=None):
        if not bool(self.codebook.initialised):
            self.codebook.reset_(z.detach()[: self.codebook_size])
        return super().forward(z, mask=mask, generator=generator)


class LosesQ(VectorQuantizer):
    def forward(self, z, *, mask=None, generator=None):
        result = super().forward(z, mask=mask, generator=generator)
        return result._replace(indices=result.indices.squeeze(-1))


class LeaksNaN(VectorQuantizer):
    def forward(self, z, *, mask=None, generator=None):
        result = super().forward(z, mask=mask, generator=generator)
        return result._replace(z_q=result.z_q + 0 * z)


class DecodesMinusOne(VectorQuantizer):
    def decode(self, indices, *, mask=None):
        return self.codebook.codewords()[indices.squeeze(-1)]


class CountsRows(VectorQuantizer):
    """Indices depend on how many vectors came along."""

    def forward(self, z, *, mask=None, generator=None):
        shift = 1e-1 * z.numel()
        return super().forward(z + shift, mask=mask, generator=generator)


class MeanOverMasked(VectorQuantizer):
    def forward(self, z, *, mask=None, generator=None):
        result = super().forward(z, mask=mask, generator=generator)
        if mask is None:
            return result
        share = mask.float().mean()
        return result._replace(
            losses={k: v * share for k, v in result.losses.items()}, loss=result.loss * share
        )


class FirstResultOnly(VectorQuantizer):
    def update_(self, *results):
        return super().update_(results[0])


class HiddenState(VectorQuantizer):
    """Updates depend on a counter that the state dict does not hold."""

    calls = 0

    def update_(self, *results):
        self.calls += 1
        report = super().update_(*results)
        self.codebook.table += 1e-3 * self.calls
        return report


class ForgetsInit(VectorQuantizer):
    def update_(self, *results):
        self.codebook.initialised.fill_(True)
        return super().update_(*results)


class StatsInEval(VectorQuantizer):
    def forward(self, z, *, mask=None, generator=None):
        training, self.training = self.training, True
        result = super().forward(z, mask=mask, generator=generator)
        self.training = training
        return result


class DoubleLoss(VectorQuantizer):
    def forward(self, z, *, mask=None, generator=None):
        result = super().forward(z, mask=mask, generator=generator)
        return result._replace(loss=2 * result.loss)


class NoGradient(VectorQuantizer):
    def forward(self, z, *, mask=None, generator=None):
        result = super().forward(z, mask=mask, generator=generator)
        return result._replace(z_q=result.z_q.detach())


class AlwaysFloat32(VectorQuantizer):
    def forward(self, z, *, mask=None, generator=None):
        result = super().forward(z, mask=mask, generator=generator)
        return result._replace(z_q=result.z_q.float())


class AutocastSearch(VectorQuantizer):
    """Distances by a matrix product that autocast turns to bfloat16."""

    def encode(self, z):
        c = self.codebook.codewords()
        found = (z @ c.T - 0.5 * c.square().sum(-1)).argmax(-1)
        return torch.where(z.isfinite().all(-1), found, -1).unsqueeze(-1)


BROKEN = {
    UpdatesInForward: "forward_is_pure",
    InitialisesInForward: "forward_is_pure",
    LosesQ: "index_form",
    LeaksNaN: "non_finite_tokens",
    DecodesMinusOne: "decode_refuses_bad_indices",
    CountsRows: "leading_shape",
    MeanOverMasked: "mask_invariance",
    FirstResultOnly: "accumulation",
    HiddenState: "state_dict_round_trip",
    ForgetsInit: "init_before_update",
    StatsInEval: "result_form",
    DoubleLoss: "result_form",
    NoGradient: "declared_jacobian",
    AlwaysFloat32: "input_dtypes",
    AutocastSearch: "autocast",
}


@pytest.mark.untyped  # some break what the annotations say, too
@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_it_catches(kind: type[VectorQuantizer]) -> None:
    with pytest.raises(ContractError, match=rf"{kind.__name__} breaks[\s\S]*{BROKEN[kind]}: "):
        check_quantizer(kind(8, 64, revival=RESAMPLE), checks=QUICK)


@pytest.mark.untyped
def test_it_catches_a_graph_break() -> None:
    class LooksAtValues(VectorQuantizer):
        def forward(self, z, *, mask=None, generator=None):
            if z.sum().item() > 1e9:
                z = -z
            return super().forward(z, mask=mask, generator=generator)

    with pytest.raises(ContractError, match=r"2 of 2[\s\S]*compiles: [\s\S]*exports: "):
        check_quantizer(LooksAtValues(8, 16), checks=["compiles", "exports"])


def test_it_catches_ranks_that_drift_apart() -> None:
    class Alone(VectorQuantizer):  # of a function: travels by value
        def update_(self, *results):
            from codebound.quantize import sync

            before, sync.world_size = sync.world_size, lambda: 1
            try:
                return super().update_(*results)
            finally:
                sync.world_size = before

    with pytest.raises(ContractError, match=r"Alone[\s\S]*after update 1"):
        check_two_ranks(Alone(8, 16))


def test_one_message_lists_every_failure() -> None:
    with pytest.raises(ContractError, match="DoubleLoss breaks 1 of 2") as caught:
        check_quantizer(DoubleLoss(8, 16), checks=["index_form", "result_form"])
    assert "loss as the weighted sum of losses" in str(caught.value)


def test_unknown_checks_and_things_are_refused() -> None:
    with pytest.raises(InputError, match="no_such_check"):
        check_quantizer(VARIANTS["default"], checks=["no_such_check"])


def test_random_indices_skip_what_compares_two_forwards() -> None:
    class Noisy(VectorQuantizer):
        def forward(self, z, *, mask=None, generator=None):
            noise = torch.randn(z.shape) if self.training else 0.0
            return super().forward(z + noise, mask=mask, generator=generator)

    report = check_quantizer(Noisy(8, 64), checks=["index_form", "accumulation", "state_dict_round_trip"])
    assert report.passed == ("index_form", "state_dict_round_trip")
    assert set(report.skipped) == {"accumulation"}

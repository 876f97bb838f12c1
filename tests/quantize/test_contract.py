"""The contract on broken quantizers, which it must catch."""

import pytest
import torch
from zoo import RESAMPLE, VECTOR

from codebound import VectorQuantizer, check_quantizer
from codebound.errors import InputError
from codebound.quantize.contract import CHECKS, ContractError

# Run without the jaxtyping hook, which refuses wrong input before our code sees it; the ranks are `test_zoo.py`'s.
ELSEWHERE = {"compiles", "exports", "two_ranks", "refuses_wrong_input"}
QUICK = [check.__name__ for check in CHECKS if check.__name__ not in ELSEWHERE]


def test_other_latents_and_shifted_ones() -> None:
    z = 1.0 + 1e-3 * torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    assert check_quantizer(VECTOR["ema, resample"], z=z, checks=QUICK).passed == tuple(QUICK)


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

    def encode(self, z, *, mask=None):
        c = self.codebook.codewords()
        found = (z @ c.T - 0.5 * c.square().sum(-1)).argmax(-1)
        return torch.where(z.isfinite().all(-1), found, -1).unsqueeze(-1)


class AutocastTraining(VectorQuantizer):
    """Right in eval; in training the latents go through a product that autocast turns to bfloat16."""

    def forward(self, z, *, mask=None, generator=None):
        if self.training:
            z = (z @ torch.eye(self.dim, dtype=z.dtype)).to(z.dtype)
        return super().forward(z, mask=mask, generator=generator)


class ForgetsPadding(VectorQuantizer):
    """Heeds a mask of rows, but not one of sequences."""

    def forward(self, z, *, mask=None, generator=None):
        return super().forward(z, mask=mask if z.ndim == 2 else None, generator=generator)


class EncodesPadding(VectorQuantizer):
    def encode(self, z, *, mask=None):
        return super().encode(z)


class BeginsFromPadding(VectorQuantizer):
    def init_(self, z, *, mask=None, generator=None):
        super().init_(z, generator=generator)


class CountsCalls(VectorQuantizer):
    """Another gradient at every call: recomputation is not what was computed."""

    calls = 0

    def forward(self, z, *, mask=None, generator=None):
        self.calls += 1
        result = super().forward(z, mask=mask, generator=generator)
        return result._replace(z_q=result.z_q.detach() + self.calls * (z - z.detach()))


class StoresTwice(VectorQuantizer):
    """One tensor under two names: torch.save does not mind, safetensors does."""

    def __init__(self, *args, **choices):
        super().__init__(*args, **choices)
        self.register_buffer("again", self.codebook.table)


class ForgetsWindow(VectorQuantizer):
    """What revival counts in is not saved."""

    def __init__(self, *args, **choices):
        super().__init__(*args, **choices)
        self.codebook.register_buffer("window_counts", self.codebook.window_counts, persistent=False)


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
    AutocastTraining: "autocast",
    ForgetsPadding: "variable_lengths",
    EncodesPadding: "masked_encode",
    BeginsFromPadding: "masked_init",
    CountsCalls: "forward_is_pure",
    ForgetsWindow: "state_dict_round_trip",
    StoresTwice: "safetensors_round_trip",
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


@pytest.mark.untyped
def test_it_catches_an_export_for_one_length_only() -> None:
    class LooksAtLength(VectorQuantizer):
        def forward(self, z, *, mask=None, generator=None):
            if z.shape[0] == 17:
                z = -z
            return super().forward(z, mask=mask, generator=generator)

    with pytest.raises(ContractError, match="exports: "):
        check_quantizer(LooksAtLength(8, 16), checks=["exports"])


def test_one_message_lists_every_failure() -> None:
    with pytest.raises(ContractError, match="DoubleLoss breaks 1 of 2") as caught:
        check_quantizer(DoubleLoss(8, 16), checks=["index_form", "result_form"])
    assert "loss as the weighted sum of losses" in str(caught.value)


def test_unknown_checks_and_things_are_refused() -> None:
    with pytest.raises(InputError, match="no_such_check"):
        check_quantizer(VECTOR["default"], checks=["no_such_check"])


def test_random_indices_skip_what_compares_two_forwards() -> None:
    class Noisy(VectorQuantizer):
        def forward(self, z, *, mask=None, generator=None):
            noise = torch.randn(z.shape) if self.training else 0.0
            return super().forward(z + noise, mask=mask, generator=generator)

    report = check_quantizer(Noisy(8, 64), checks=["index_form", "accumulation", "state_dict_round_trip"])
    assert report.passed == ("index_form", "state_dict_round_trip")
    assert set(report.skipped) == {"accumulation"}

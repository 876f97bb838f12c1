"""Every public quantizer, every choice of each kind, and every way to put them together: what the contract is run on.

`test_zoo.py` holds that nothing public is missing here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from codebound import recipes
from codebound.errors import InputError
from codebound.quantize import (
    BSQ,
    FSQ,
    LFQ,
    BitTrellis,
    MultiScale,
    Pooled,
    Product,
    Projected,
    Quantized,
    Quantizer,
    Residual,
    Scaled,
    Trellis,
    UpdateReport,
    VectorQuantizer,
    assign,
    estimator,
    form,
    init,
    revival,
    update,
)

Make = Callable[[], Quantizer]

NEVER = {"revival": revival.Never()}
TRAINED = {"update": update.Gradient(), **NEVER}
RESAMPLE, SPLIT = revival.Resample(window=4.0, candidates=6), revival.Split(window=4.0)


def vq(dim: int = 8, size: int = 16, seed: int = 0, **choices) -> VectorQuantizer:
    return VectorQuantizer(dim, size, seed=seed, **choices)


# The five choices and the form, one beside the defaults each.
VECTOR: dict[str, Make] = {
    "default": lambda: vq(),
    "ema, split": lambda: vq(revival=SPLIT, estimator=estimator.StopGradient()),
    "ema, resample": lambda: vq(revival=RESAMPLE, seed=3),
    "ema, never": lambda: vq(revival=revival.Never(), init=init.Sample()),
    "gradient, resample": lambda: vq(5, 7, update=update.Gradient(), revival=RESAMPLE),
    "gradient, never": lambda: vq(5, 7, estimator=estimator.StopGradient(), **TRAINED),
    "gradient, split": lambda: vq(3, 32, update=update.Gradient(), revival=SPLIT),
    "frozen": lambda: vq(update=update.Frozen(), **NEVER),
    "one dimension, two codewords": lambda: vq(1, 2, revival=RESAMPLE),
    "odd sizes, split": lambda: vq(16, 33, revival=SPLIT),
    "rotation": lambda: vq(4, estimator=estimator.Rotation()),
    "projection": lambda: vq(4, estimator=estimator.Projection()),
    "nsvq": lambda: vq(4, estimator=estimator.NSVQ(), **TRAINED),
    "diveq": lambda: vq(4, estimator=estimator.DiVeQ(), **TRAINED),
    "softmax_all": lambda: vq(4, estimator=estimator.SoftmaxAll(), **TRAINED),
    "gumbel, hard": lambda: vq(4, assign=assign.Gumbel(), estimator=estimator.Gumbel(), **TRAINED),
    "gumbel, soft": lambda: vq(4, assign=assign.Gumbel(), estimator=estimator.Gumbel(hard=False), **TRAINED),
    "cosine": lambda: vq(4, assign=assign.Cosine(), revival=RESAMPLE),
    "stochastic": lambda: vq(4, assign=assign.Stochastic(0.5), revival=RESAMPLE),
    "entropy_constrained": lambda: vq(4, assign=assign.EntropyConstrained(0.2), revival=RESAMPLE),
    "blahut_arimoto": lambda: vq(4, assign=assign.Soft(steps=20), update=update.BlahutArimoto()),
    "simvq": lambda: vq(4, form=form.Linear(), **TRAINED),
    "unit": lambda: vq(4, form=form.Unit(), assign=assign.Cosine(), **TRAINED),
    "unit, ema": lambda: vq(4, form=form.Unit(), revival=RESAMPLE),
}

INITS: dict[str, init.Init] = {
    "uniform": init.Uniform(),
    "normal": init.Normal(),
    "xavier": init.Xavier(),
    "sample": init.Sample(),
    "kmeans": init.KMeans(iterations=3, seeding="k-means||"),
    "rate_distortion": init.RateDistortion(),
    "synthetic": init.Synthetic(),
    "lattice": init.Lattice(),
    "best": init.Best((init.Sample(), init.Normal(0.5)), held_out=0.25),
}

SCALAR: dict[str, Make] = {
    "fsq 8555": lambda: FSQ([8, 5, 5, 5]),
    "fsq 44": lambda: FSQ([4, 4]),
    "fsq 23": lambda: FSQ([2, 3]),
    "fsq large": lambda: FSQ([1000] * 6),
    "lfq": lambda: LFQ(8),
    "lfq grouped": lambda: LFQ(20, group_bits=7, temperature=0.5),
    "lfq one bit": lambda: LFQ(1, scale=0.5),
    "bsq": lambda: BSQ(8, commitment_weight=0.25),
    "bsq 62": lambda: BSQ(62),
    "bsq grouped": lambda: BSQ(9, group_bits=4, temperature=0.1),
}
RANDOM: dict[str, Make] = {"lfq, random bits": lambda: LFQ(6, stochastic=True, temperature=4.0)}


def shared_residual() -> Residual:
    return Residual([vq(revival=RESAMPLE)] * 3, share=True)


def dac_like(normalise: bool = False) -> Residual:
    stages = [
        Projected(vq(4, 12, update=update.Gradient()), 8, normalise=normalise, seed=i) for i in range(2)
    ]
    return Residual(stages, estimator=None)


COMPOSED: dict[str, Make] = {
    "residual": lambda: Residual([vq(revival=RESAMPLE), vq(size=12)]),
    "residual, rotation": lambda: Residual([vq(), vq(size=12)], estimator=estimator.Rotation()),
    "residual, NSVQ": lambda: Residual([vq(**TRAINED), vq(**TRAINED)], estimator=estimator.NSVQ()),
    "residual, own estimators": lambda: Residual([vq(update=update.Gradient()), vq()], estimator=None),
    "residual, shared": shared_residual,
    "residual, dropout": lambda: Residual([vq(), vq(revival=RESAMPLE), vq()], depth_dropout=0.5),
    "residual, beam": lambda: Residual([vq(), vq(size=12), vq(size=5)], beam_width=3, depth_dropout=0.5),
    "residual FSQ": lambda: Residual([Scaled(FSQ([5, 4, 3]), 0.5**q) for q in range(3)]),
    "residual LFQ": lambda: Residual([LFQ(4, scale=0.5**q) for q in range(3)]),
    "residual of kinds": lambda: Residual([Scaled(FSQ([5, 5, 5, 5]), (1.0, 2.0, 1.0, 3.0)), vq(4)]),
    "product": lambda: Product([vq(3, revival=RESAMPLE), vq(5, 9)]),
    "heads, shared": lambda: Product([vq(4, revival=RESAMPLE)] * 2, share=True),
    "grouped residual": lambda: Product([Residual([vq(4), vq(4)]), Residual([vq(3), vq(3)])]),
    "grouped residual, shared": lambda: Product([Residual([vq(4)] * 2, share=True)] * 2, share=True),
    "scaled": lambda: Scaled(vq(4), 2.0),
    "pooled": lambda: Residual([Pooled(vq(2, revival=RESAMPLE), 4, 2), Product([vq(2)] * 4, share=True)]),
}
PROJECTED: dict[str, Make] = {
    "projected": lambda: Projected(vq(4, revival=RESAMPLE), 9),
    "projected, orthogonal": lambda: Projected(vq(4, update=update.Gradient()), 9, orthogonal=True),
    "random projection": lambda: recipes.best_rq(9, 16, code_dim=4),
    "projected FSQ": lambda: Projected(FSQ([5, 4, 3]), 9),
    "projected residual": lambda: Projected(Residual([vq(4), vq(4)]), 6),
    "residual of projected": dac_like,
    "product of projected": lambda: Product([Projected(vq(3), 4), Projected(vq(2), 5)]),
}
MULTISCALE: dict[str, Make] = {
    "multiscale": lambda: MultiScale(vq(3, revival=RESAMPLE), [1, (2, 1), (3, 4)], blends=2),
    "multiscale, trained": lambda: MultiScale(vq(2, update=update.Gradient()), [1, 2, 3], seed=1),
    "multiscale, no blends": lambda: MultiScale(vq(2), [(1, 2), (2, 2)], blends=0),
}
TRELLIS: dict[str, Make] = {
    "trellis": lambda: Trellis(3, distortion=0.6, states=4, loss_weights={"rate": 0.1}),
    "bit trellis": lambda: BitTrellis(4, bits=2, state_bits=4, table="quantiles"),
    "bit trellis, rotated": lambda: BitTrellis(8, bits=1, state_bits=4, rotation="hadamard"),
    "projected trellis": lambda: Projected(Trellis(2, rate=4.0, transform=None, decay=1.0), 5),
}
RANDOM["trellis, dither"] = lambda: Trellis(2, distortion=0.3, states=4, surrogate="dither")
EVERY: dict[str, Make] = {**VECTOR, **SCALAR, **RANDOM, **COMPOSED, **PROJECTED, **MULTISCALE, **TRELLIS}


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

    def encode(self, z: Tensor, *, mask: Tensor | None = None) -> Tensor:
        return self.forward(z, mask=mask).indices

    def decode(
        self, indices: Tensor, *, mask: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        self.check_indices(indices, mask)
        valid = torch.ones_like(indices[..., 0], dtype=torch.bool) if mask is None else mask
        flat = torch.where(valid.unsqueeze(-1), indices, 0)
        if bool(((flat < 0) | (flat >= self.codebook_sizes[0])).any()):
            raise InputError("indices out of range")
        signs = torch.where((flat & self.bits) > 0, 1.0, -1.0)
        return torch.where(valid.unsqueeze(-1), signs, 0.0).to(self.decoded_dtype(dtype))

    def init_(
        self, z: Tensor, *, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> None:
        self.check_input(z, mask)

    def update_(self, *results: Quantized) -> UpdateReport:
        tokens = sum(int((result.indices[..., 0] >= 0).sum()) for result in results)
        return UpdateReport(tokens, 0, (), ())

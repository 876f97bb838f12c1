"""Quantizers with the settings of the papers that made them known.

Each function returns a `Quantizer`; arguments are what one changes first. Settings that a paper does not give are
named as ours. What belongs to training (learning rates, schedules, the networks) is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from codebound.errors import InputError
from codebound.quantize.assign import Cosine
from codebound.quantize.binary import BSQ, LFQ
from codebound.quantize.compose import Product
from codebound.quantize.form import Linear, Unit
from codebound.quantize.init import KMeans, Normal, Sample
from codebound.quantize.multiscale import MultiScale
from codebound.quantize.residual import Residual
from codebound.quantize.revival import Never, Resample
from codebound.quantize.scalar import FSQ
from codebound.quantize.trellis import Trellis
from codebound.quantize.update import EMA, Frozen, Gradient
from codebound.quantize.vector import VectorQuantizer
from codebound.quantize.wrap import Pooled, Projected


def vqvae2017(dim: int = 64, codebook_size: int = 512, *, ema: bool = False) -> VectorQuantizer:
    """VQ-VAE (van den Oord, Vinyals & Kavukcuoglu 2017).

    K = 512 and β = 0.25 (§4.1, §3.2); codebook by its own loss, or by EMA of decay 0.99 (appendix A.1). No revival. D
    = 64 and the start from the batch are ours (the authors' code: uniform, D = 64).
    """
    return VectorQuantizer(
        dim,
        codebook_size,
        update=EMA(decay=0.99) if ema else Gradient(),
        revival=Never(),
        init=Sample(),
        loss_weights={"commitment": 0.25, "codebook": 1.0},
    )


def vit_vqgan(dim: int = 768, codebook_size: int = 8192, *, code_dim: int = 32) -> Projected:
    """ViT-VQGAN (Yu et al. 2022).

    Codes of 32 dimensions on the unit sphere, K = 8192, β = 0.25 (§3.2, table 4); D = 768 is the base model's
    (table 2). The start, N(0, I) on the sphere, is ours.
    """
    return _on_sphere(dim, codebook_size, code_dim, scale=1.0)


def llamagen(dim: int = 256, codebook_size: int = 16384, *, code_dim: int = 8) -> Projected:
    """LlamaGen's image tokenizer (Sun et al. 2024).

    ViT-VQGAN's codes with K = 16,384 and 8 dimensions, β = 0.25; losses are means over the 8 dimensions, so an eighth
    of our sums; D = 256 is the encoder's (all of the authors' code). The start, N(0, I) on the sphere, is ours.
    """
    return _on_sphere(dim, codebook_size, code_dim, scale=1.0 / code_dim)


def titok(dim: int = 1024, codebook_size: int = 4096, *, code_dim: int = 12) -> Projected:
    """TiTok (Yu, Weber, Deng, Shen, Cremers & Chen 2024): an image as 32 tokens without places.

    The one-dimensional tokens are the encoder's affair, as its outputs at learned latent tokens, `[b, 32, dim]`; the
    quantizer is ViT-VQGAN's with K = 4096 and 12 dimensions, β = 0.25, losses as means over the 12 dimensions (authors'
    configuration and code). D = 1024 is ViT-L's. The start is ours.
    """
    return _on_sphere(dim, codebook_size, code_dim, scale=1.0 / code_dim)


def _on_sphere(dim: int, codebook_size: int, code_dim: int, scale: float) -> Projected:
    """Trained codes on the unit sphere behind linear maps; losses of 0.25 and 1, times `scale`."""
    inner = VectorQuantizer(
        code_dim,
        codebook_size,
        form=Unit(),
        update=Gradient(),
        revival=Never(),
        init=Normal(),
        loss_weights={"commitment": 0.25 * scale, "codebook": scale},
    )
    return Projected(inner, dim, normalise=True)


def encodec(bandwidth: float = 24.0, *, dim: int = 128, depth_dropout: float = 1.0) -> Residual:
    """EnCodec at 24 kHz (Défossez, Copet, Synnaeve & Adi 2022).

    75 frames a second and K = 1024 give 0.75 kbps per stage: 2, 4, 8, 16 or 32 stages for 1.5, 3, 6, 12 or 24 kbps
    (§3.2). EMA of decay 0.99, k-means start, dead codewords from the batch (§3.2). In training all samples are cut
    (§3.2: a bandwidth drawn per batch; ours uniformly over depths, per sample). Revival is ours: relative, not under
    2 hits of a decayed count. The commitment has weight 1 (§3.4, λ_w) as a mean over stages and dimensions (authors'
    code), so 1/(Q·D) of our sums.

    Args:
        bandwidth: kilobits per second.

    Raises:
        InputError: a bandwidth that is no whole number of stages.
    """
    stages = round(bandwidth / 0.75)
    if stages < 1 or abs(stages * 0.75 - bandwidth) > 1e-9:
        raise InputError(f"bandwidth must be a multiple of 0.75 kbps (one stage); got {bandwidth}")
    return Residual(
        [
            VectorQuantizer(
                dim,
                1024,
                update=EMA(decay=0.99),
                init=KMeans(iterations=50),
                revival=Resample(),
                loss_weights={"commitment": 1.0 / (stages * dim)},
                seed=seed,
            )
            for seed in range(stages)
        ],
        depth_dropout=depth_dropout,
    )


def dac(dim: int = 1024, *, stages: int = 9, codebook_size: int = 1024, code_dim: int = 8) -> Residual:
    """Descript audio codec at 44.1 kHz (Kumar, Seetharaman, Luebs, Kumar & Kumar 2023).

    9 stages of K = 1024 in 8 dimensions, found by cosine similarity (§3.2, table 1); depth dropout with probability
    0.5 (§3.3); commitment 0.25 and codebook 1.0 by gradient (§4.1) as means over the 8 dimensions (authors' code), so
    an eighth of our sums. D = 1024 is the encoder's (§4.1). The start, N(0, I), is PyTorch's `Embedding`.
    """
    built = [_dac_stage(dim, codebook_size, code_dim, seed) for seed in range(stages)]
    return Residual(built, depth_dropout=0.5, estimator=None)


def _dac_stage(dim: int, codebook_size: int, code_dim: int, seed: int) -> Projected:
    table = VectorQuantizer(
        code_dim,
        codebook_size,
        assign=Cosine(),
        update=Gradient(),
        revival=Never(),
        init=Normal(),
        loss_weights={"commitment": 0.25 / code_dim, "codebook": 1.0 / code_dim},
        seed=seed,
    )
    return Projected(table, dim, seed=seed)


def snac(
    dim: int = 768, *, strides: Sequence[int] = (4, 2, 1), codebook_size: int = 4096, code_dim: int = 8
) -> Residual:
    """SNAC at 24 kHz (Siuzdak, Grötschla & Lanzendörfer 2024): residual stages of several temporal resolutions.

    Each stage quantizes means over `strides` frames, by a codebook as DAC's: K = 4096 in 8 dimensions, found by cosine
    similarity; D = 768 (authors' configuration; at 44.1 kHz D = 1024, strides 8, 4, 2, 1). Their training code is not
    public: losses and start are DAC's.

    A vector is what the coarsest stage sees at once, max(strides) frames: `z.unflatten(1, (-1, 4)).flatten(-2)` of
    frames `[b, T, 768]`. Its indices are those of the stages in turn, 1 + 2 + 4 of them.

    Raises:
        InputError: strides that don't divide the first, the largest.
    """
    length = max(strides, default=0)
    if not strides or any(stride < 1 or length % stride for stride in strides):
        raise InputError(f"strides must be positive and divide the largest; got {list(strides)}")
    stages = []
    for seed, stride in enumerate(strides):
        places = Product([_dac_stage(dim, codebook_size, code_dim, seed)] * (length // stride), share=True)
        stages.append(Pooled(places, stride, dim) if stride > 1 else places)
    return Residual(stages, estimator=None)


def mimi(
    dim: int = 512,
    *,
    stages: int = 8,
    codebook_size: int = 2048,
    code_dim: int = 256,
    depth_dropout: float = 1.0,
) -> Projected:
    """Mimi, Moshi's audio codec (Défossez et al. 2024, §3.3): a semantic codebook beside residual stages.

    12.5 frames a second, 8 indices of K = 2048 each: the first of a plain codebook, which is to be distilled, seven of
    residual stages. Both see the latent through a map of their own to 256 dimensions, and what comes back is summed:
    here a `Product` of both behind one pair of maps. EMA of decay 0.99, revival under a tenth of the fair share
    (authors' code); the acoustic stages are cut as in EnCodec. The commitment, of weight 1 as a mean over stages and
    dimensions, is ours, and so are the maps' biases.

    Args:
        stages: indices per frame, the semantic one among them.

    Raises:
        InputError: fewer than two.
    """
    if stages < 2:
        raise InputError(f"stages must be at least 2, one of them semantic; got {stages}")
    tables = [
        VectorQuantizer(
            code_dim,
            codebook_size,
            update=EMA(decay=0.99),
            init=KMeans(iterations=50),
            revival=Resample(threshold=0.1),
            loss_weights={"commitment": 1.0 / (stages * code_dim)},
            seed=seed,
        )
        for seed in range(stages)
    ]
    return Projected(Product([tables[0], Residual(tables[1:], depth_dropout=depth_dropout)]), dim)


def simvq(dim: int = 128, codebook_size: int = 65536) -> VectorQuantizer:
    """SimVQ (Zhu et al. 2024): a trained linear map of a frozen Gaussian table.

    K = 65,536, D = 128, N(0, 1/D) codewords (§4.1 and the authors' code); commitment 0.25, codebook 1.0 (eq. 2).
    """
    return VectorQuantizer(
        dim,
        codebook_size,
        form=Linear(),
        update=Gradient(),
        revival=Never(),
        init=Normal(std=dim**-0.5),
        loss_weights={"commitment": 0.25, "codebook": 1.0},
    )


FSQ_LEVELS: dict[int, tuple[int, ...]] = {
    8: (8, 6, 5),
    10: (8, 5, 5, 5),
    12: (7, 5, 5, 5, 5),
    14: (8, 8, 8, 6, 5),
    16: (8, 8, 8, 5, 5, 5),
}


def fsq(bits: int = 10, *, dim: int | None = None, levels: Sequence[int] | None = None) -> FSQ | Projected:
    """Finite scalar quantization (Mentzer, Minnen, Agustsson & Tschannen 2023): the levels of table 1 for about 2^bits
    codes, with linear maps around them where `dim` is given.

    Raises:
        InputError: bits that table 1 does not have, and no levels.
    """
    if levels is None and bits not in FSQ_LEVELS:
        raise InputError(f"bits must be one of {sorted(FSQ_LEVELS)}, or give levels; got {bits}")
    inner = FSQ(FSQ_LEVELS[bits] if levels is None else levels)
    return inner if dim is None else Projected(inner, dim)


def bsq(dim: int = 768, bits: int = 18) -> Projected:
    """Binary spherical quantization (Zhao, Xiong & Krähenbühl 2024): 18 or 36 bits behind linear maps (§4.1; D = 768
    is the ViT-B encoder's).

    Entropy weights and temperature are `BSQ`'s defaults, the authors' settings as named there.
    """
    return Projected(BSQ(bits), dim)


def open_magvit2(bits: int = 18) -> LFQ:
    """Open-MAGVIT2 (Luo et al. 2024): lookup-free quantization with 2^18 codes, of the encoder's output itself.

    Weight 0.1 of the token's entropy less the codebook's, at temperature 0.01; commitment 0.25 as a mean over the bits,
    so an 18th of our sums (authors' configuration and code).
    """
    return LFQ(bits, entropy_weight=0.1, diversity=1.0, commitment_weight=0.25 / bits, temperature=0.01)


def var(
    dim: int = 32,
    codebook_size: int = 4096,
    *,
    sizes: Sequence[int | tuple[int, int]] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
) -> MultiScale:
    """VAR's tokenizer (Tian, Jiang, Yuan, Peng & Wang 2024): residual tokens over a pyramid of resolutions.

    One codebook of K = 4096 in 32 dimensions for ten levels, 680 tokens of an image of 256² (§3.2); β = 0.25,
    losses as means over the 32 dimensions, four convolutions shared by neighbouring levels, blended half and half
    (authors' code). The start, N(0, I), is PyTorch's `Embedding`.
    """
    inner = VectorQuantizer(
        dim,
        codebook_size,
        update=Gradient(),
        revival=Never(),
        init=Normal(),
        loss_weights={"commitment": 0.25 / dim, "codebook": 1.0 / dim},
    )
    return MultiScale(inner, sizes, blends=4, blend=0.5)


def ectcq(
    dim: int = 16,
    rate: float = 32.0,
    *,
    states: int = 8,
    surrogate: Literal["straight_through", "dither"] = "straight_through",
    rate_weight: float = 0.0,
) -> Trellis:
    """Entropy-coded trellis-coded quantization (Fischer & Wang 1992; Marcellin 1994) for an encoder that is trained.

    The code holds `rate` bits per vector by reverse water-filling over the principal axes of the latents, which its
    `update_` follows, so that an encoder need only lower its own loss. Call `init_` once more when training is over:
    that fits levels to the latents as they came out and sets the rate by their entropy. Eight states are the papers'
    usual choice; straight-through gradients, D and the rate are ours.

    Args:
        surrogate: "dither" trains with an error of the same variance that does not depend on the latents, as additive
            noise does for scalars (Ballé, Laparra & Simoncelli 2017, §3).
        rate_weight: of the rate in the loss; there the rate falls below the one that the code holds.
    """
    return Trellis(
        dim,
        rate=rate,
        states=states,
        surrogate=surrogate,
        holds_rate=True,
        loss_weights={"rate": rate_weight},
    )


def best_rq(dim: int = 512, codebook_size: int = 8192, *, code_dim: int = 16) -> Projected:
    """BEST-RQ (Chiu, Qin, Zhang, Yu & Wu 2022): targets from a frozen random projection and a frozen codebook.

    K = 8192, 16 dimensions, both sides on the unit sphere (§3.2, §4.1). The projection is orthonormal where the
    paper's is Xavier-uniform; normalised, they choose alike. Latents are to be standardised before.
    """
    inner = VectorQuantizer(
        code_dim, codebook_size, form=Unit(), update=Frozen(), revival=Never(), init=Normal()
    )
    return Projected(inner, dim, normalise=True, frozen=True)

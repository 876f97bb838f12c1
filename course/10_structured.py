# %% [markdown]
# # 10. Codes with structure: residual, product, scalar
#
# A codebook of $2^{Rd}$ words is out of reach beyond a dozen bits (chapter 2). Structure buys size: codewords that are
# *computed* from small tables.
#
# | code | codewords | stored | searched |
# |---|---|---|---|
# | one codebook | $K$ | $Kd$ | $Kd$ |
# | **product**, $m$ parts of $d/m$ | $k^m$ | $kd$ | $kd$ |
# | **residual**, $m$ stages | $k^m$ | $mkd$ | $mkd$ (greedy) |
# | **scalar grid** (FSQ), $L$ levels | $L^d$ | nothing | $d$ roundings |
#
# ## Product: parts by themselves
#
# Error and bits add up over the parts, so each part is a small problem. What is lost is everything between parts:
# memory, and the shape and space-filling gain of the whole (chapter 2). For independent Gaussians each part of $d/m$
# dimensions has the distance from the bound of a codebook of that dimension. Correlation between parts is best removed
# first (turn to principal axes) or spread (a random rotation makes unequal variances equal).
#
# ## Residual: one after the other
#
# Stage $i$ quantizes what stages before left, $r_i = r_{i-1} - c^{(i)}$. If stage $i$ leaves the share $\rho_i$ of its
# input's energy, $m$ stages leave $\prod\rho_i$: distortion falls **exponentially in the stages**, as it should in
# bits. How far from the bound? Shannon's bound is a Gaussian's $2^{-2R}$ for $R$ bits, and it is *successively
# refinable* (Equitz and Cover 1991): optimal codes of $R_1$ bits and then of $R_2$ for the residual would be optimal
# for $R_1+R_2$ (the optimal residual is again Gaussian, of variance $D_1$, independent of the reproduction: chapter 3).
# But real stages leave residuals that are no longer Gaussian, and a greedy choice is not the best sum.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from codebound import FSQ, Product, Residual, VectorQuantizer
from codebound.quantize import Scaled
from codebound.theory import gaussian

torch.manual_seed(0)
fresh = torch.randn(20_000, 8)


def fitted(layer, steps=100):
    layer.init_(torch.randn(8192, 8))
    for _ in range(steps):
        layer.update_(layer(torch.randn(2048, 8)))
    return layer.eval()


def gap(layer):
    bits = sum(np.log2(size) for size in layer.codebook_sizes)
    error = float((layer.decode(layer.encode(fresh)) - fresh).square().sum(1).mean())
    return bits / 8, gaussian.gap_db(error, gaussian.distortion_rate(float(bits), 8))


def best_grid(levels):
    """FSQ at the scale, of 20, that has the least error on other vectors."""
    z = torch.randn(5000, 8)
    layers = [Scaled(FSQ([levels] * 8), 0.8 + 0.2 * i).eval() for i in range(20)]
    return min(layers, key=lambda q: float((q(z).z_q - z).square().sum()))


codes = {
    "one codebook": [fitted(VectorQuantizer(8, k)) for k in (16, 64, 256, 1024)],
    "product": [fitted(Product([VectorQuantizer(2, k, seed=i) for i in range(4)])) for k in (4, 16, 64)],
    "residual": [fitted(Residual([VectorQuantizer(8, 64, seed=i) for i in range(m)])) for m in (1, 2, 3, 4)],
    "scalar grid": [best_grid(n) for n in (3, 5, 7)],
}
table = {name: [gap(layer) for layer in layers] for name, layers in codes.items()}
for name, points in table.items():
    print(f"{name:13s}", "  ".join(f"{bits:.2f} bit {db:.2f} dB" for bits, db in points))

# %%
# Figure: Distance from the bound over the rate, independent Gaussians of eight dimensions.
for name, points in table.items():
    plt.plot(*zip(*points), "o-", label=name)
plt.xlabel("bits per component")
plt.ylabel("dB above the bound")
plt.legend()

# %% [markdown]
# (FSQ as it is, at one scale: a network would bend its latents to the grid, which is the point of FSQ.)
#
# ## Better sums: a beam
#
# Greedy search takes the nearest codeword in each stage. A beam keeps the best few sums: never worse, since the greedy
# one is among them.

# %%
stages = [
    layer.eval() for layer in fitted(Residual([VectorQuantizer(8, 64, seed=i) for i in range(4)])).stages
]
for width in (1, 2, 4, 8):
    beam = Residual(stages, beam_width=width).eval()
    print(f"beam of {width}: {gap(beam)[1]:.2f} dB above the bound")

# %% [markdown]
# ## A prefix is a code
#
# Residual codes have every lower rate inside: decode the first stages only. One model serves several bit rates (chapter
# 5's picture).

# %%
# Figure: Distortion of prefixes of a residual code of six stages, beside Shannon's bound for the same bits.
residual = fitted(Residual([VectorQuantizer(8, 64, seed=i) for i in range(6)]))
indices = residual.encode(fresh)
errors = [float((residual.decode(indices[:, :m]) - fresh).square().sum(1).mean()) for m in range(1, 7)]
plt.semilogy(range(1, 7), errors, "o-", label="residual, 6 bits a stage")
plt.semilogy(
    range(1, 7), [gaussian.distortion_rate(6.0 * m, 8) for m in range(1, 7)], color="black", label="bound"
)
plt.xlabel("stages decoded")
plt.ylabel("distortion")
plt.legend()

# %% [markdown]
# ## Which one?
#
# [Choosing](../choosing.md) has it measured: one codebook up to some thousand words; residual codes where the latent is
# large and several rates are wanted; FSQ where nothing may die; trellis codes (chapter 16) for the last decibel.
#
# ## Questions
#
# `codebound course check structured my_answer.py`
#
# 1. *Understanding.* `stored_numbers(kind, codewords, dim, parts)`: for kind "one", "product" or "residual",
#    `codewords` in each table.
# 2. *Extension.* `product_distortion(distortions)`: of a product code whose parts have these.
# 3. *Theory.* `stages_needed(share_left, target)`: stages that each leave this share of the energy, until at most
#    `target` is left.
# 4. *Implementation.* `residual_quantize(z, codebooks)`: indices `[n, m]` and the reproduction, greedily.
# 5. *Research.* `beam_quantize(z, codebooks, width)`: the same with a beam; never worse than greedy.

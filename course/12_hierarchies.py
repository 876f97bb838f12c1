# %% [markdown]
# # 12. Hierarchies: several resolutions
#
# Pictures have structure at every scale. A hierarchy codes a coarse grid of indices, then finer ones, each told what
# the coarser ones say (VQ-VAE-2: Razavi and others 2019; VAR: Tian and others 2024).
#
# Chapter 11: levels of $K_1, K_2, \dots$ words carry at most $\sum \log_2 K_i$ bits, as one code of that size. So
# compare **at equal bits**. What can a hierarchy gain then?
#
# ## The rate-distortion of two scales
#
# Let a map be the sum of a coarse part, constant on blocks of $n$ places with variance $\lambda_c$, and a fine part of
# variance $\lambda_f$ a place. In the orthonormal basis of block mean and the rest, a block has one coefficient of
# variance $n\lambda_c+\lambda_f$ and $n-1$ of variance $\lambda_f$. Water-filling (chapter 3) gives the block mean
#
# $$R_c = \tfrac12\log_2\frac{n\lambda_c+\lambda_f}{\theta}, \qquad R_f = \tfrac12\log_2\frac{\lambda_f}{\theta}\ \text{ each},$$
#
# more bits for the coarse coefficient, by $\tfrac12\log_2(1+n\lambda_c/\lambda_f)$. A flat code of places by themselves
# sees variance $\lambda_c+\lambda_f$ at each of them and pays $\tfrac n2\log_2\frac{\lambda_c+\lambda_f}{\theta}$. The
# difference is the gain: what places of a block share is described once and not $n$ times.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from codebound import Product, Residual, VectorQuantizer
from codebound.data.images import photographs
from codebound.quantize import MultiScale, Pooled
from codebound.theory import gaussian


def gain_db(n, coarse, fine, bits_per_place):
    """How far water-filling over two scales is below a flat code of places, in dB at equal bits."""
    variances = np.array([n * coarse + fine] + [fine] * (n - 1))
    two = gaussian.water_filling(variances, bits_per_place * n).distortion
    return 10 * np.log10(n * gaussian.distortion_rate(bits_per_place, 1, coarse + fine) / two)


# %%
# Figure: What knowing two scales is worth at equal bits, over how much of the variance is coarse (blocks of 16 places).
shares = np.linspace(0.01, 0.99, 50)
for bits in (0.05, 0.15, 2.0):
    plt.plot(shares, [gain_db(16, s, 1 - s, bits) for s in shares], label=f"{bits:g} bit a place")
plt.xlabel("coarse share of the variance")
plt.ylabel("gain in dB")
plt.legend()

# %% [markdown]
# Without a coarse part there is nothing to gain; with much of it, decibels. A code whose vectors *are* blocks has all
# of this without a hierarchy (it sees the block), at the price of a large codebook. And an encoder network can move the
# common part into fewer places by itself. So a hierarchy gains against codes that see too little.
#
# ## Measured on photographs
#
# 16×16 patches of luminance as maps of 8×8 places with 4 numbers each, 64 words a codebook, fitted on 13 photographs
# and judged on four others. Flat: one residual code of $m$ stages at each place. Two scales: one stage on 2×2 blocks (a
# quarter of the indices), the rest at each place.


# %%
def maps(split, count, seed):
    generator = torch.Generator().manual_seed(seed)
    pictures = [torch.tensor(p.pixels).float().mean(-1) / 255 for p in photographs(split)]
    patches = []
    for i in range(count):
        picture = pictures[i % len(pictures)]
        y = int(torch.randint(picture.shape[0] - 16, (), generator=generator))
        x = int(torch.randint(picture.shape[1] - 16, (), generator=generator))
        patches.append(picture[y : y + 16, x : x + 16])
    z = torch.stack(patches)
    z = z - z.mean((1, 2), keepdim=True)
    places = z.unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)  # [count, 8, 8, 4]
    blocks = places.unfold(1, 2, 2).unfold(2, 2, 2)  # [count, 4, 4, 4, 2, 2]
    return blocks.movedim(3, -1).flatten(3)  # [count, 4, 4, 16]: the four places of a block side by side


torch.manual_seed(0)
train, fresh = maps("train", 600, 0), maps("held_out", 200, 1)


def places(seed):
    """A stage at each of the four places of a block."""
    return Product([VectorQuantizer(4, 64, seed=seed)] * 4, share=True)


def means(seed):
    """A stage on the mean of the four."""
    return Pooled(VectorQuantizer(4, 64, seed=seed), 4, size=4)


codes = {
    "flat, 1 stage": (Residual([places(0)]), 4 * 6.0),
    "flat, 2 stages": (Residual([places(0), places(1)]), 4 * 12.0),
    "two scales, 1 + 1": (Residual([means(0), places(1)]), 6.0 + 4 * 6.0),
    "two scales, 1 + 2": (Residual([means(0), places(1), places(2)]), 6.0 + 4 * 12.0),
}
found = {}
for name, (code, bits) in codes.items():
    code.init_(train)
    for _ in range(40):
        code.update_(code(train[torch.randint(len(train), (100,))]))
    code.eval()
    error = float((code(fresh).z_q - fresh).square().mean())
    found[name] = (bits / 16, 10 * np.log10(float(fresh.var()) / error))
    print(f"{name:18s} {bits / 16:.3f} bit a number: {found[name][1]:.2f} dB")

# %% [markdown]
# To compare at equal bits, read the flat code's line at the other's rate:

# %%
(r1, d1), (r2, d2) = found["flat, 1 stage"], found["flat, 2 stages"]
for name in ("two scales, 1 + 1", "two scales, 1 + 2"):
    rate, db = found[name]
    print(
        f"{name}: {db - (d1 + (rate - r1) * (d2 - d1) / (r2 - r1)):+.2f} dB against the flat code at equal bits"
    )

# %% [markdown]
# ## As layers and models
#
# `Pooled` puts a stage at a lower resolution; `MultiScale` quantizes a whole pyramid of one map (VAR);
# `HierarchicalTokenizer` has its own networks for each grid (`codebound train vqvae2`). In all of them the coarse
# indices come first, which is the order in which a prior draws them (chapter 14).

# %%
# Without its convolutions (`blends=0`), which only training makes useful.
multiscale = MultiScale(VectorQuantizer(4, 64), (1, 2, 4, 8), blends=0)


def pyramid(z):
    """The same maps by rows of places, [count, 8·8·4]."""
    return z.unflatten(3, (2, 2, 4)).permute(0, 1, 3, 2, 4, 5).flatten(1)


multiscale.init_(pyramid(train))
indices = multiscale.eval().encode(pyramid(fresh))
print("indices of a map, by level:", [tuple(level.shape[1:]) for level in multiscale.levels(indices)])

# %%
# Figure: A patch from its coarsest level to all four.
with torch.no_grad():
    bounds = np.cumsum([1, 4, 16, 64])
    shown = [multiscale.decode(indices[:1, :b]).unflatten(1, (8, 8, 2, 2)) for b in bounds]
pictures = [
    s[0].permute(0, 2, 1, 3).reshape(16, 16) for s in (*shown, pyramid(fresh[:1]).unflatten(1, (8, 8, 2, 2)))
]
_, axes = plt.subplots(1, 5, figsize=(7.2, 1.8))
for axis, picture, name in zip(axes, pictures, ("1×1", "+ 2×2", "+ 4×4", "+ 8×8", "original")):
    axis.imshow(picture, cmap="gray", vmin=float(fresh[0].min()), vmax=float(fresh[0].max()))
    axis.set_title(name)
    axis.axis("off")

# %% [markdown]
# ## Questions
#
# `codebound course check hierarchies my_answer.py`
#
# 1. *Understanding.* `bits_of_pyramid(sides, codebook_size)`: bits of one square map with levels of these sides.
# 2. *Extension.* `coarse_bits(n, coarse, fine)`: how many bits more the block mean gets than a fine coefficient (all
#    above water).
# 3. *Theory.* `two_scale_distortion(n, coarse, fine, bits)`: of a block of n places at `bits` for the whole block.
# 4. *Implementation.* `two_scales(z, coarse_words, fine_words)`: quantize `[h, w, d]` maps: 2×2 means first, then what
#    is left; returns the reproduction.
# 5. *Research.* `split_bits(n, coarse, fine, bits)`: whole bits for the mean and for each of the others, the best split
#    under the total.

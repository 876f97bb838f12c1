# %% [markdown]
# # 9. Blahut–Arimoto: the bound computed, and soft assignment
#
# Chapter 3 derived $R(D)$ for a Gaussian. For a source with finitely many values, or a sample of one, it can be
# computed: Blahut (1972) and Arimoto (1972) found an algorithm that looks much like k-means with soft cells.
#
# ## Derivation
#
# Source $p(x)$, reproductions $\hat x$, costs $d(x,\hat x)$. Minimise over $q(\hat x\mid x)$
#
# $$I(X;\hat X) + s\,\mathbb{E}\,d = \min_{r}\ \sum_x p(x) \sum_{\hat x} q(\hat x\mid x)\Bigl[\log\frac{q(\hat x\mid x)}{r(\hat x)} + s\,d(x,\hat x)\Bigr].$$
#
# The inner minimum over $r$ is at $r(\hat x)=\sum_x p(x)q(\hat x\mid x)$, since the difference is
# $\mathrm{KL}(\text{marginal}\,\|\,r)\ge 0$. So there are two unknowns, and each is easy for a given other:
#
# - given $r$: $\ q(\hat x\mid x) \propto r(\hat x)\,e^{-s\,d(x,\hat x)}$ (set the derivative with respect to $q$ plus a
#   multiplier of $\sum q=1$ to zero: $\log q/r + 1 + s d + \lambda = 0$);
# - given $q$: $\ r(\hat x) = \sum_x p(x)\,q(\hat x\mid x)$.
#
# Taking them in turn lowers the sum each time, and as it is convex in $(q, r)$ together, it ends at the minimum. $-s$
# is the slope of $R(D)$ at the point that is found.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from codebound import VectorQuantizer
from codebound.quantize import EMA, BlahutArimoto, Soft
from codebound.search import distortion
from codebound.theory import gaussian


def blahut_arimoto(p, d, slope, steps=400):
    """(rate in bits, distortion, r) at a slope in nats per unit of d."""
    r = np.full(d.shape[1], 1 / d.shape[1])
    for _ in range(steps):
        q = r * np.exp(-slope * (d - d.min(1, keepdims=True)))
        q /= q.sum(1, keepdims=True)
        r = p @ q
    terms = np.where(q > 0, q * np.log2(np.maximum(q, 1e-300) / np.maximum(r, 1e-300)), 0)
    return float(p @ terms.sum(1)), float(p @ (q * d).sum(1)), r


# A fair coin with Hamming distance: R(D) = 1 − h(D).
coin = np.array([0.5, 0.5])
hamming = 1 - np.eye(2)
for slope in (1.0, 2.0, 4.0):
    rate, d, _ = blahut_arimoto(coin, hamming, slope)
    exact = 1 + d * np.log2(d) + (1 - d) * np.log2(1 - d)
    print(f"D = {d:.4f}: {rate:.4f} bit, formula {exact:.4f}")

# %% [markdown]
# ## A Gaussian on a grid
#
# 401 values between −5 and 5 stand for $N(0,1)$; the curve should be $\frac12\log_2(1/D)$.

# %%
# Figure: The rate-distortion function of a Gaussian by Blahut–Arimoto (points) and in closed form.
x = np.linspace(-5, 5, 401)
p = np.exp(-(x**2) / 2)
p /= p.sum()
d = (x[:, None] - x[None, ::4]) ** 2
points = np.array([blahut_arimoto(p, d, s, 150)[:2] for s in (0.6, 0.8, 1.2, 2.0, 4.0, 8.0)])
line = np.linspace(0.04, 1, 100)
plt.plot(line, 0.5 * np.log2(1 / line), color="black", label="½·log₂(1/D)")
plt.plot(points[:, 1], points[:, 0], "o", label="Blahut–Arimoto")
plt.xlabel("distortion")
plt.ylabel("bits")
plt.legend()

# %%
for rate, dist in points[::2]:
    print(f"D = {dist:.3f}: {rate:.3f} bit, closed form {gaussian.rate_distortion(dist, 1):.3f}")

# %% [markdown]
# ## As a layer
#
# With codewords in place of fixed reproductions, add one step: each codeword moves to the mean of the vectors weighted
# by $q$ (deterministic annealing: Rose 1998). `VectorQuantizer(assign=Soft(), update=BlahutArimoto())` does that; as
# $s$ grows, the assignment hardens to the nearest codeword.
#
# At small $s$ all codewords share one place; as $s$ grows they split, first where the data spread most. (A little noise
# separates those that share a place.) That finds good minima more often than k-means from drawn vectors does:

# %%
torch.manual_seed(0)
centres = torch.tensor([[4.0 * i, 4.0 * j] for i in range(3) for j in range(3)])
z = centres[torch.randint(9, (4000,))] + 0.3 * torch.randn(4000, 2)


def kmeans(words, steps=60):
    for _ in range(steps):
        index = torch.cdist(z, words).argmin(1)
        words = torch.stack(
            [z[index == j].mean(0) if (index == j).any() else words[j] for j in range(len(words))]
        )
    return words


def annealed(words, steps=150):
    words = z.mean(0) + 0.1 * torch.randn(len(words), 2)
    for slope in torch.logspace(-1.5, 1, steps):
        q = torch.softmax(-slope * torch.cdist(z, words).square(), 1)
        words = (q.T @ z) / q.sum(0)[:, None] + 0.1 * torch.randn(len(words), 2)
    return kmeans(words, 5)


ends = {"k-means": [], "annealed": []}
for seed in range(20):
    torch.manual_seed(seed)
    start = z[torch.randperm(len(z))[:9]]
    ends["k-means"].append(float(distortion(z, kmeans(start))))
    ends["annealed"].append(float(distortion(z, annealed(start))))
for name, found in ends.items():
    print(f"{name:9s} best {min(found):.3f}, median {np.median(found):.3f}, worst {max(found):.3f}")

# %%
# Figure: Distortions at which k-means and annealing end, from the same 20 starts, on nine clusters with nine codewords.
plt.boxplot(list(ends.values()), tick_labels=list(ends), whis=(0, 100))
plt.yscale("log")
plt.ylabel("distortion at the end")

# %% [markdown]
# ## A layer's soft cells
#
# Without the rising slope soft cells only blur. Codewords that are best for shared vectors lie nearer together than
# those that are best for the nearest one, and if indices are kept, the nearest one it is:

# %%
torch.manual_seed(0)
for name, layer in (
    ("EMA", VectorQuantizer(8, 64, update=EMA(0.9))),
    ("Blahut–Arimoto", VectorQuantizer(8, 64, assign=Soft(), update=BlahutArimoto())),
):
    layer.init_(torch.randn(4000, 8))
    for _ in range(200):
        layer.update_(layer(torch.randn(1024, 8)))
    print(f"{name:15s} {float(distortion(torch.randn(50_000, 8), layer.codewords())):.3f}")

# %% [markdown]
# In a VQ-VAE the slope follows the scale of the latents and the network trains along. There soft assignment as it is
# usually described loses to EMA with revival, and with a slope scaled to the data it is level with an EMA of the same
# short memory ([measured](../results/utilisation.md)).
#
# ## Questions
#
# `codebound course check blahut-arimoto my_answer.py`
#
# 1. *Understanding.* `coin_rate(distortion)`: $R(D)$ of a fair coin under Hamming distance.
# 2. *Extension.* `biased_coin_rate(p, distortion)`: of a coin with probability p, for $D \le \min(p, 1-p)$.
# 3. *Theory.* `slope_of_gaussian(distortion)`: $dR/dD$ of $N(0,1)$, in bits.
# 4. *Implementation.* `blahut_arimoto(p, d, slope)`: rate in bits and distortion.
# 5. *Research.* `soft_codewords(z, codewords, slope)`: one step of annealing: weights from uniform shares, then
#    weighted means.

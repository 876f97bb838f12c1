# %% [markdown]
# # 4. Random codebooks, and how a codebook should begin
#
# Shannon's proof that the bound can be reached is short: **draw the codewords at random**, from the distribution of the
# best reproduction, $N(0, \sigma^2 - D)$ for a Gaussian (chapter 3). With long blocks nearly every such codebook is
# good. That suggests a way to initialise a codebook: fit a Gaussian to the latents and draw from $N(0, \sigma^2 - D)$.
# Does it work at the sizes that are used?
#
# ## Why random works at all
#
# Let $x$ have $\|x\|^2 \approx d\sigma^2$. A random codeword is within $\sqrt{dD}$ of it with probability about $2^{-d
# R(D)}$. (For the Gaussian that is a cap of a sphere: its half angle has $\sin^2 = D/\sigma^2$, and a cap's share of
# the surface is about $\sin^{d} = (D/\sigma^2)^{d/2} = 2^{-d\cdot\frac12\log_2(\sigma^2/D)}$.) So with a few more than
# $2^{dR(D)}$ codewords one is near enough.
#
# "About" hides factors that only vanish for long blocks. At finite size everything can be computed: the distance of $x$
# to a random codeword has a noncentral $\chi^2$ distribution with function $F$, and the nearest of $n$ independent ones
# is beyond $t$ with probability $(1-F(t))^n$, hence
#
# $$\mathbb{E} D = \mathbb{E}_{\|x\|}\int_0^\infty \bigl(1-F(t)\bigr)^n\,dt .$$

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from codebound.quantize import Best, KMeans, RateDistortion, Sample, Synthetic, Uniform
from codebound.search import distortion
from codebound.theory import finite, gaussian
from codebound.theory.lloyd import lloyd

generator = torch.Generator().manual_seed(0)
drawn = [
    float(
        distortion(
            torch.randn(20_000, 8, generator=generator), 0.75**0.5 * torch.randn(256, 8, generator=generator)
        )
    )
    for _ in range(20)
]
print(
    f"formula {finite.random_codebook_distortion(8, 256, 0.75):.3f}; twenty codebooks {np.mean(drawn):.3f} ± {np.std(drawn) / 20**0.5:.3f}"
)
print(f"Shannon's bound {gaussian.distortion_rate(8.0, 8):.3f}")

# %%
# Figure: Random codewords at one bit per component. They approach the bound slowly: the distance falls like log(d)/d.
dims = np.array([1, 2, 4, 6, 8, 10, 12, 14])
gaps = [
    gaussian.gap_db(finite.best_codeword_variance(int(d), 2 ** int(d)).distortion, d * 0.25) for d in dims
]
plt.plot(dims, gaps, "o-")
plt.ylim(0)
plt.xlabel("dimensions d, with 2^d codewords")
plt.ylabel("dB above Shannon's bound")

# %% [markdown]
# So "a random codebook starts at Shannon's bound" is true only where no one can store the codebook. And the best
# variance at finite size is not $\sigma^2 - D$ either:

# %%
for size in (16, 256, 4096):
    best = finite.best_codeword_variance(8, size)
    d = gaussian.distortion_rate(np.log2(size), 8) / 8
    print(f"{size:5d} words: best variance {best.variance:.3f}, σ² − D = {1 - d:.3f}")

# %% [markdown]
# ## Starts beside each other
#
# A codebook begins somewhere, then it is trained. What matters is where it ends, on fresh data. Here on correlated
# Gaussian latents, with 1,000 of them to begin with, as is usual, and 10,000 to train on. (The
# [study](../results/initialisation.md) does this over four sources, eight seeds and twelve starts.)


# %%
def source(count, seed):
    mixing = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(5)))[0] * torch.tensor(
        [2.0, 1.5, 1.2, 0.8, 0.6, 0.5, 0.3, 0.2]
    )
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)) @ mixing.T


starts = {
    "uniform ±1/K": Uniform(), "drawn latents": Sample(), "k-means": KMeans(), "N(0, σ² − D), isotropic": RateDistortion("isotropic"),
    "water-filled": RateDistortion(), "Lloyd on samples of the fit": Synthetic(), "best of several": Best(),
}  # fmt: skip
table = {}
for name, init in starts.items():
    rows = []
    for seed in range(3):
        few, train, fresh = source(1000, 10 + seed), source(10_000, 20 + seed), source(50_000, 30 + seed)
        words = init(few, 256, torch.Generator().manual_seed(seed))
        ended = lloyd(train, words, iterations=40, empty="keep").codebook
        dead = 256 - len(torch.unique(torch.cdist(fresh, ended).argmin(1)))
        rows.append((float(distortion(fresh, words)), float(distortion(fresh, ended)), dead))
    table[name] = np.mean(rows, axis=0)
    print(f"{name:28s} start {table[name][0]:6.3f}  end {table[name][1]:.3f}  dead {table[name][2]:.0f}")

# %%
# Figure: Where the starts end after training, in dB above Shannon's bound.
spectrum = np.array([2.0, 1.5, 1.2, 0.8, 0.6, 0.5, 0.3, 0.2]) ** 2
bound = gaussian.water_filling(spectrum, 8.0).distortion
names = list(table)
plt.barh(names, [10 * np.log10(table[n][1] / bound) for n in names], color="#2f6fdb")
plt.xlabel("dB above Shannon's bound after training")
plt.gca().invert_yaxis()

# %% [markdown]
# What it says: a start that follows the shape of the latents is good; which of them is a matter of a percent. The
# isotropic one puts codewords where no latents are, and those that never win a latent stay dead: no later step of
# Lloyd's algorithm brings them back (chapter 8). Uniform ones sit so near each other that all get a share of the
# latents at once, and whole batches then pull them apart; with the small steps of a training they are the worst start
# of all ([measured](../results/initialisation.md)).
#
# ## Questions
#
# `codebound course check random-codebooks my_answer.py`
#
# 1. *Understanding.* `codewords_needed(dim, bits)`: how many codewords are $R$ bits per component in $d$ dimensions.
# 2. *Extension.* `expected_minimum(n)`: the expected squared distance from 0 to the nearest of $n$ values drawn
#    uniformly from $[0, 1]$.
# 3. *Theory.* `cap_exponent(distortion)`: bits per dimension in the share of a sphere that is within $\sqrt{dD}$ (unit
#    variance).
# 4. *Implementation.* `random_codebook(z, codebook_size, seed)`: Gaussian codewords with the mean of the latents and
#    the covariance of the best reproduction at $\log_2 K$ bits.
# 5. *Research.* `better_start(z, codebook_size)`: a start in PyTorch that ends (after Lloyd) level with k-means on
#    correlated latents.

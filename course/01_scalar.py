# %% [markdown]
# # 1. One number, few values: scalar quantization
#
# A quantizer replaces a number $x$ by one of $K$ values, its **levels** $c_1 < \dots < c_K$. Only the number of the
# level, its **index**, is kept: $\log_2 K$ bits. What is lost is the **distortion**, the mean of the squared error
#
# $$D = \mathbb{E}\,\bigl(x - c_{j(x)}\bigr)^2 .$$
#
# Which levels are best, and which level should each $x$ get? The two questions are easy one at a time.

# %%
import matplotlib.pyplot as plt
import numpy as np

from codebound.theory import lloyd, bounds

rng = np.random.default_rng(0)
x = rng.normal(size=200_000)

# %% [markdown]
# ## Two conditions
#
# **The levels are given.** Then each $x$ should go to the nearest level: any other choice makes a term of the mean
# larger, and no term depends on another. The border between two neighbours is their midpoint $t_j = (c_j + c_{j+1})/2$.
#
# **The cells are given.** Then each level should be the mean of what falls into its cell. For a cell $A$ write $m =
# \mathbb{E}[x \mid A]$; for any level $c$
#
# $$\mathbb{E}[(x-c)^2 \mid A] = \mathbb{E}[(x-m)^2 \mid A] + 2(m-c)\,\mathbb{E}[x-m \mid A] + (m-c)^2 ,$$
#
# and the middle term is zero, since $m$ is the mean. So $c = m$ is best, and an error of $m - c$ costs exactly its
# square.
#
# Lloyd's algorithm (1957, printed 1982) takes the two steps in turn. Neither can raise $D$, and $D \ge 0$: so $D$
# converges.


# %%
def lloyd_step(x, levels):
    """Each sample to its nearest level, then each level to the mean of its samples."""
    borders = (levels[1:] + levels[:-1]) / 2
    index = np.searchsorted(borders, x)
    distortion = np.mean((x - levels[index]) ** 2)
    counts = np.bincount(index, minlength=len(levels))
    sums = np.bincount(index, weights=x, minlength=len(levels))
    return np.where(counts > 0, sums / np.maximum(counts, 1), levels), distortion


levels, history, path = np.array([-3.0, -2.5, 2.0, 3.5]), [], []
for _ in range(40):
    path.append(levels)
    levels, distortion = lloyd_step(x, levels)
    history.append(distortion)
exact = lloyd.lloyd_max(4)
print("levels after 40 steps", np.round(levels, 3))
print("the best levels      ", np.round(exact.levels, 3))
print(f"distortion {history[-1]:.4f}, at best {exact.distortion:.4f}")

# %%
# Figure: Lloyd's algorithm from a bad start. Left, the four levels over the steps; right, the distortion, which never rises.
_, (left, right) = plt.subplots(1, 2)
left.plot(path)
left.set(xlabel="step", ylabel="level")
right.plot(history)
right.axhline(exact.distortion, color="black", linestyle="--", label="the best four levels")
right.set(xlabel="step", ylabel="distortion", yscale="log")
right.legend()

# %% [markdown]
# `codebound.theory.lloyd.lloyd_max` solves the two conditions for a Gaussian without samples, with integrals in closed
# form. The solution is unique there, because the density is log-concave (Fleischer 1964). For other densities Lloyd's
# algorithm can stop at a local optimum.
#
# ## What a bit buys
#
# With twice as many levels, each cell is half as wide and its error a quarter. So at many levels every bit divides $D$
# by four, which is 6.02 dB. For a density $f$ the best placement of levels (closer where $f$ is large, with density
# proportional to $f^{1/3}$) gives (Panter and Dite 1951)
#
# $$D \approx \frac{1}{12 K^2}\Bigl(\int f^{1/3}\Bigr)^3, \qquad \text{for } N(0,1):\quad \frac{\sqrt{3}\,\pi}{2}\,K^{-2} \approx 2.72\,K^{-2}.$$
#
# Why $f^{1/3}$: with $\lambda(x)$ levels per unit length the cell at $x$ has width $1/\lambda$ and a uniform error of
# variance $1/(12\lambda^2)$. Minimise $\int f/(12\lambda^2)$ under $\int\lambda = K$: the derivative $-f/(6\lambda^3)$
# must be the same everywhere, so $\lambda \propto f^{1/3}$.
#
# Shannon's bound for the same number of bits is $2^{-2R} = K^{-2}$ (chapter 3). So scalar levels with a fixed number of
# bits stay $10\log_{10} 2.72 = 4.35$ dB above it, however many there are.

# %%
# Figure: Distance of the best scalar quantizer from Shannon's bound, and its limit for many levels.
sizes = 2 ** np.arange(1, 9)
gaps = [10 * np.log10(lloyd.lloyd_max(int(k)).distortion * k**2) for k in sizes]
limit = 10 * np.log10(np.sqrt(3) * np.pi / 2)
plt.plot(np.log2(sizes), gaps, "o-", label="Lloyd–Max levels")
plt.axhline(limit, color="black", linestyle="--", label="√3·π/2: many levels")
plt.xlabel("bits")
plt.ylabel("dB above Shannon's bound")
plt.legend()

# %%
for k, gap in zip(sizes[:4], gaps):
    print(f"{k:3d} levels: {gap:.2f} dB above the bound")
zador = bounds.zador_high_rate(1, 256)
print(
    f"at 256 levels the formula says {zador:.3e}, the best levels have {lloyd.lloyd_max(256).distortion:.3e}"
)

# %% [markdown]
# ## Questions
#
# Write your answers into a file and try them: `codebound course check scalar my_answer.py`. Hints come with what is
# wrong.
#
# 1. *Understanding.* `one_bit_distortion`: what does the best quantizer of two levels leave of $N(0,1)$? (Its levels
#    are $\pm\sqrt{2/\pi}$.)
# 2. *Extension.* `uniform_distortion(levels)`: the least distortion of a uniform density on $[0, 1]$.
# 3. *Theory.* `price_of_a_shift(shift)`: by how much $D$ rises if all levels of an optimal quantizer are moved by
#    `shift`, cells unchanged.
# 4. *Implementation.* `lloyd(x, levels, steps)`: Lloyd's algorithm in NumPy; a level without samples stays where it is.
# 5. *Research.* `better_start(x, count)`: starting levels from which `lloyd` ends well on a density with two narrow
#    peaks of unequal weight.

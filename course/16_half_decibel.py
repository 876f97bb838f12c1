# %% [markdown]
# # 16. Half a decibel from Shannon
#
# How near can a *practical* code come, with a rate of several bits? Scalars with the right number of bits each and an
# entropy code are 1.53 dB off; a trellis code with 8 states 0.47, with 256 states 0.23. Where the numbers come from:
#
# ## Entropy-coded scalars: 1.53 dB
#
# Quantize uniformly with step $\Delta$, small against the density. The error is nearly uniform: $D = \Delta^2/12$. The
# index has entropy $H \approx h(X) - \log_2\Delta$ (a histogram of a density: $-\sum f\Delta\log_2(f\Delta)$). Put
# together for a Gaussian:
#
# $$R = \tfrac12\log_2(2\pi e\,\sigma^2) - \tfrac12\log_2(12 D) = \tfrac12\log_2\frac{\sigma^2}{D} + \tfrac12\log_2\frac{2\pi e}{12} .$$
#
# The last term is 0.2546 bit, which is $10\log_{10}(2\pi e/12) = 1.53$ dB, at every high rate and *for every density*,
# because $h(X)$ appears in Shannon's lower bound in the same way. So with an entropy code the shape of the density
# costs nothing; what is lost is the cube: its second moment is $1/12$, a ball's of many dimensions $1/(2\pi e)$.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from codebound import Trellis, codec
from codebound.theory import gaussian, trellis

rates = np.array([0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0])
scalar = [
    gaussian.gap_db(trellis.entropy_constrained_scalar(float(r)).distortion, 4.0 ** -float(r)) for r in rates
]
print("entropy-coded scalars, dB above the bound:", *[f"{r:g} bit {g:.2f}" for r, g in zip(rates, scalar)])
print(f"the cube's loss {10 * np.log10(2 * np.pi * np.e / 12):.3f} dB")

# %% [markdown]
# ## Rounder cells without a codebook: trellis codes
#
# Split the levels $n\Delta$ into subsets, and let a machine of $S$ states say which subset may be used next. Each
# value's level depends on the path so far; a whole **path** is chosen, by dynamic programming (Viterbi), for the least
# total error. In $N$ dimensions the allowed sequences are a set of points whose cells are much rounder than cubes, and
# nothing is stored but the machine.
#
# The gain is in one number, the normalised second moment $G$ of these cells; the distance from the bound is
# $10\log_{10}(2\pi e\,G)$ dB, if levels are entropy-coded and reproductions are scaled by $1 - D/\sigma^2$ (chapter 3:
# the best reproduction has less variance).

# %%
# Figure: Distance from the bound by states of the trellis, beside scalars and the best lattices' limit.
states = [4, 8, 16, 32, 64, 128, 256, 512, 1024]
losses = [trellis.granular_gap_db(trellis.granular_moment(s)) for s in states]
plt.semilogx(states, losses, "o-", base=2, label="trellis codes")
plt.axhline(10 * np.log10(2 * np.pi * np.e / 12), color="#d6336c", linestyle="--", label="scalars")
plt.axhline(0, color="black", label="bound")
plt.xlabel("states")
plt.ylabel("dB above the bound")
plt.legend()

# %% [markdown]
# Doubling the states gains less each time, and costs twice the work. Half a decibel takes 8 states.
#
# ## A file, weighed
#
# Not a formula: all bytes of a file of 400,000 Gaussian values.

# %%
torch.manual_seed(0)
z = torch.randn(50_000, 8)
for count in (8, 64):
    code = Trellis(8, rate=16.0, states=count)
    code.init_(z[:10_000])
    data = codec.compress_vectors(z, code)
    again = torch.as_tensor(codec.decompress_vectors(data))
    bits = 8 * len(data) / z.numel()
    error = float((z - again).square().mean())
    print(
        f"{count:3d} states: {bits:.3f} bits a value, {gaussian.gap_db(error, 4.0**-bits):.2f} dB above the bound"
    )

# %% [markdown]
# ## Viterbi by hand
#
# The machine of four states and its search, in a dozen lines, beside rounding at the same *density of levels*: levels
# of spacing $\Delta$ split in four subsets, two of which are allowed in each state, so that a path has levels of
# spacing $2\Delta$ at each step.


# %%
def viterbi(x, step):
    """The nearest sequence of a trellis of four states; subset = level mod 4."""
    allowed = {0: ((0, 0), (2, 1)), 1: ((1, 2), (3, 3)), 2: ((2, 0), (0, 1)), 3: ((3, 2), (1, 3))}
    cost = np.array([0.0, np.inf, np.inf, np.inf])
    trace = []
    for value in x:
        best, back = np.full(4, np.inf), [None] * 4
        for state, branches in allowed.items():
            for subset, following in branches:
                level = (4 * np.round((value / step - subset) / 4) + subset) * step
                total = cost[state] + (value - level) ** 2
                if total < best[following]:
                    best[following], back[following] = total, (state, level)
        cost, trace = best, [*trace, back]
    state, levels = int(cost.argmin()), []
    for back in reversed(trace):
        state, level = back[state]
        levels.append(level)
    return np.array(levels[::-1])


rng = np.random.default_rng(0)
x = rng.uniform(-50, 50, 4000)
error = np.mean((x - viterbi(x, 0.5)) ** 2)  # a path has one level in each unit, as rounding has
print(
    f"rounding {1 / 12:.4f}, path {error:.4f}: {10 * np.log10(1 / 12 / error):.2f} dB less; formula {10 * np.log10(1 / 12 / trellis.granular_moment(4)):.2f}"
)

# %% [markdown]
# ## Where it does not help
#
# Clusters (a code that sees whole vectors wins), and sparse components at half a bit (a path must leave zero now and
# then): [measured beside faiss and k-means](../vectors.md#beside-other-codes).
#
# ## Questions
#
# `codebound course check half-decibel my_answer.py`
#
# 1. *Understanding.* `bits_lost_by_cubes`: the 1.53 dB, as bits a value.
# 2. *Extension.* `uniform_entropy(step, sigma)`: of a Gaussian's index at a small step, in bits.
# 3. *Theory.* `gap_of_moment(moment)`: dB above the bound of cells with this normalised second moment.
# 4. *Implementation.* `viterbi(x, step)`: as above for the four-state machine; a sequence of allowed levels with the
#    least error.
# 5. *Research.* `scaled_reproduction(x, step)`: uniform quantization with one factor on the reproduction that lowers
#    the error most.

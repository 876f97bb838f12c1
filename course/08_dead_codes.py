# %% [markdown]
# # 8. Why codes die, and what revives them
#
# A codeword moves only when a vector is nearest to it. One that wins none stands still; if the latents move away, it
# never wins again. It is **dead**, and its share of the bits is wasted. So a codebook is a population: codewords are
# born, live on hits, and die.
#
# ## A codeword in a fixed cell
#
# Let $p$ be the probability that a vector falls into the cell, and $B$ vectors a batch. A batch misses it with
# probability $(1-p)^B \approx e^{-pB}$, so of $K$ codewords the expected number without a hit in $N$ vectors is
#
# $$\mathbb{E}\,\text{dead} = \sum_{j=1}^K (1-p_j)^N .$$
#
# $(1-p)^N$ is convex in $p$, so by Jensen **unequal cells mean more dead codewords** than $K(1-1/K)^N$, never fewer.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from codebound import VectorQuantizer
from codebound.quantize import EMA, Never, Resample, Split
from codebound.search import nearest
from codebound.theory import finite, population

rng = np.random.default_rng(0)
for name, p in (("equal", np.full(512, 1 / 512)), ("unequal", rng.dirichlet(np.full(512, 0.5)))):
    expected = finite.expected_dead_codes(p, 1024)
    counted = np.mean([(rng.multinomial(1024, p) == 0).sum() for _ in range(200)])
    print(
        f"{name:8s} cells: expected {expected:.1f} of 512 without a hit in 1,024 vectors, counted {counted:.1f}"
    )

# %% [markdown]
# ## The mass of an EMA
#
# With EMA the codeword has a mass $N_j$ (chapter 7), which decays by $\gamma$ in each batch without a hit. From $N$ to
# a threshold $\theta$ it takes $\ln(N/\theta)/(-\ln\gamma)$ batches. In a fixed cell the mass is a first-order
# autoregression: mean $Bp$, variance $\frac{1-\gamma}{1+\gamma}Bp(1-p)$. A rare codeword (small $Bp$) fluctuates much
# in proportion and sinks below a threshold now and then, though it is alive: **a threshold on the mass must be in
# proportion to $Bp$**, else codewords are "revived" that had nothing wrong.

# %%
# Figure: How long until the mass of a codeword first falls below half of a hit, for cells that get half a hit to two hits a batch on average.
hits = np.array([0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0])
for decay in (0.9, 0.99):
    times = [population.passage_time(h / 512, 512, decay, 0.5, h) for h in hits]
    plt.semilogy(hits, times, "o-", label=f"γ = {decay}")
plt.xlabel("hits a batch, B·p")
plt.ylabel("batches until extinction by mass")
plt.legend()

# %% [markdown]
# (Where a curve ends, the time is beyond $10^{12}$ batches.)
#
# ## Cells that move: the mean field
#
# Codewords pull at each other's cells. In the limit of small steps the noise averages out, and all $K$ codewords follow
# a differential equation, the **mean field**. For EMA
#
# $$\frac{dN_j}{dt} = (1-\gamma)(B\,p_j - N_j), \qquad \frac{dm_j}{dt} = (1-\gamma)(B\,p_j\mu_j - m_j), \qquad c_j = m_j/N_j ,$$
#
# where $p_j$ and $\mu_j$, the share and mean of cell $j$, depend on all codewords. A codeword with $p_j = 0$ has
# $dN_j/dt = -(1-\gamma)N_j$: it keeps its place while its mass decays with rate $1-\gamma$. So $p_j=0$ is an absorbing
# state: dead stays dead unless a neighbour moves out of the way. `theory.population.evolve` integrates this, with whole
# hits as well, and predicts the number of dead within 3 % in settings that were fixed before any simulation
# ([measured](../results/estimators.md)).
#
# ## Watched
#
# 256 codewords, of which most begin far out. Without revival those stay dead. `Resample` moves a codeword that had too
# few hits in a window to a vector of the batch; `Split` moves it beside a busy one.


# %%
def run(revival, seed=0, steps=600):
    vq = VectorQuantizer(8, 256, update=EMA(0.99), revival=revival)
    generator = torch.Generator().manual_seed(seed)
    vq.set_codewords_(3 * torch.randn(256, 8, generator=generator))
    fresh = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(99))
    alive, errors = [], []
    for step in range(steps):
        vq.update_(vq(torch.randn(1024, 8, generator=generator)))
        if step % 20 == 0:
            index = nearest(fresh, vq.codewords())
            alive.append(len(index.unique()))
            errors.append(float((fresh - vq.codewords()[index]).square().sum(1).mean()))
    return alive, errors


runs = {name: run(r) for name, r in (("never", Never()), ("resample", Resample()), ("split", Split()))}
for name, (alive, errors) in runs.items():
    print(f"{name:9s} {alive[-1]:3d} of 256 in use, distortion {errors[-1]:.2f}")

# %%
# Figure: Codewords in use (left) and distortion on fresh data (right), without revival and with two kinds of it.
_, (left, right) = plt.subplots(1, 2)
for name, (alive, errors) in runs.items():
    left.plot(range(0, 600, 20), alive, label=name)
    right.plot(range(0, 600, 20), errors, label=name)
left.set(xlabel="batch", ylabel="codewords in use")
right.set(xlabel="batch", ylabel="distortion", yscale="log")
left.legend()

# %% [markdown]
# ## What else helps
#
# - **A good start** (chapter 4): what begins among the data does not die at once.
# - **Moving all codewords together**: SimVQ trains a linear map of the codebook, so that codewords without hits move
#   along.
# - **No codebook**: FSQ's codes are a grid, whose cells the encoder must fill (chapter 10).
# - **Keeping latents still**: commitment, a small learning rate of the encoder.
#
# And a full codebook is no proof of a good one: in the [utilisation study](../results/utilisation.md) an arm with 99 %
# of 4,096 in use is 0.25 dB below one with 94 %.
#
# ## Questions
#
# `codebound course check dead-codes my_answer.py`
#
# 1. *Understanding.* `expected_dead(p, count)`: codewords without a hit in `count` vectors.
# 2. *Extension.* `batches_to_starve(mass, threshold, decay)`: without a hit.
# 3. *Theory.* `mass_moments(p, batch_size, decay)`: mean and variance of the mass in steady state.
# 4. *Implementation.* `revive(codebook, counts, z, share, seed)`: rows whose count is below `share` of the mean move to
#    different vectors of `z`.
# 5. *Research.* `false_alarms(p, batch_size, window, share)`: the probability that a codeword of share p, alive, is
#    below `share` of its own mean in a window of batches (Poisson hits).

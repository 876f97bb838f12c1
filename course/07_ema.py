# %% [markdown]
# # 7. EMA as online k-means
#
# Training sees the data in batches. k-means wants counts and sums of the cells over all data. So keep running ones:
# after each batch with counts $n_j$ and sums $s_j$,
#
# $$N_j \leftarrow \gamma N_j + (1-\gamma)\,n_j, \qquad M_j \leftarrow \gamma M_j + (1-\gamma)\,s_j, \qquad c_j = M_j / N_j .$$
#
# An **exponential moving average** of the two, with decay $\gamma$, 0.99 as a rule. It remembers about $1/(1-\gamma) =
# 100$ batches.
#
# ## As a step
#
# Put the first two into the third:
#
# $$c_j^{\text{new}} = c_j + \underbrace{\frac{(1-\gamma)\,n_j}{\gamma N_j + (1-\gamma) n_j}}_{\eta_j}\Bigl(\frac{s_j}{n_j} - c_j\Bigr).$$
#
# A step of size $\eta_j$ towards the batch's mean of the cell. In steady state $N_j \approx n_j$, so $\eta_j \approx
# 1-\gamma$ for *every* codeword, however rarely it is used. Gradient descent on the codebook loss (chapter 2) has
# $\eta_j = 2\,\mathrm{lr}\,n_j/B$: rare codewords move slowly. **EMA is gradient descent preconditioned with the
# inverse of the counts**, which is Newton's method for this loss: its second derivative is $2 n_j/B$.
#
# ## It converges: a theorem and its conditions
#
# Let the cells be fixed (as they are near a solution without vectors on borders), with mean $\mu_j$, variance $v_j$ per
# latent and $n$ latents a batch. Then $M_j/N_j$ is a weighted mean of batch means with weights $(1-\gamma)\gamma^{t}$,
# so after $T$ batches from $c_j(0)$
#
# $$\mathbb{E}\,c_j(T) - \mu_j = \gamma^T\,(c_j(0) - \mu_j), \qquad \operatorname{Var} c_j \to \frac{v_j}{n}\sum_t (1-\gamma)^2\gamma^{2t} = \frac{v_j}{n}\,\frac{1-\gamma}{1+\gamma}.$$
#
# (Constant counts; with random ones it holds to first order.) So at fixed $\gamma$ the codeword forgets its start
# geometrically, and then trembles around the mean with variance $\frac{1-\gamma}{1+\gamma}\cdot\frac{v}{n}$: it does
# *not* converge. If $1-\gamma_t = 1/t$, the averages are plain means of all batches so far; $\sum 1/t = \infty$ forgets
# the start, $\sum 1/t^2 < \infty$ lets the tremor die, and $c_j \to \mu_j$ almost surely: the conditions of Robbins and
# Monro (1951), and MacQueen's k-means (1967). With moving cells the same steps end at *some* stationary point of
# k-means (Bottou and Bengio 1995).
#
# ## Watched

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from codebound import VectorQuantizer
from codebound.quantize import EMA, Never
from codebound.search import distortion
from codebound.theory.lloyd import lloyd


def batch(step, count=64):
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(step))


def one_cell(decay, steps, repeats=200):
    """A single cell: codewords of many repeats, from 3, over the steps."""
    generator = torch.Generator().manual_seed(0)
    counts, sums = torch.ones(repeats), 3.0 * torch.ones(repeats)
    path = []
    for t in range(steps):
        z = torch.randn(repeats, 64, generator=generator)
        g = decay(t)
        counts, sums = g * counts + (1 - g) * 64, g * sums + (1 - g) * z.sum(1)
        path.append(sums / counts)
    return torch.stack(path)


for gamma in (0.9, 0.99):
    path = one_cell(lambda t, g=gamma: g, 2000)
    measured = float(path[1000:].var())
    print(f"γ = {gamma}: variance {measured:.2e}, formula {(1 - gamma) / (1 + gamma) / 64:.2e}")

# %%
# Figure: The distance of a codeword from its cell's mean, root mean square over 200 repeats: constant decay stops, 1/t goes on.
for label, decay in (
    ("γ = 0.9", lambda t: 0.9),
    ("γ = 0.99", lambda t: 0.99),
    ("γ = 1 − 1/t", lambda t: 1 - 1 / (t + 1)),
):
    path = one_cell(decay, 3000)
    plt.loglog(np.arange(1, 3001), path.square().mean(1).sqrt(), label=label)
plt.xlabel("batches")
plt.ylabel("distance from the mean")
plt.legend()

# %% [markdown]
# ## A whole codebook
#
# Sixteen codewords for pairs. k-means on 100,000 vectors is the judge; EMA sees batches of 512.

# %%
# Figure: EMA's distortion on fresh data beside that of k-means on many samples, for three decays.
torch.manual_seed(0)
many, fresh = torch.randn(100_000, 2), torch.randn(50_000, 2)
best = float(distortion(fresh, lloyd(many, many[:16].clone()).codebook))
for gamma in (0.9, 0.99, 0.999):
    vq = VectorQuantizer(2, 16, update=EMA(gamma), revival=Never())
    vq.set_codewords_(many[:16])
    found = []
    for step in range(1500):
        vq.update_(vq(torch.randn(512, 2, generator=torch.Generator().manual_seed(step))))
        if step % 25 == 0:
            found.append(float(distortion(fresh, vq.codewords())))
    plt.plot(range(0, 1500, 25), found, label=f"γ = {gamma}")
    print(f"γ = {gamma}: ends {100 * (found[-1] / best - 1):+.1f} % from k-means")
plt.axhline(best, color="black", linestyle="--", label="k-means")
plt.ylim(best * 0.97, best * 1.6)
plt.xlabel("batch")
plt.ylabel("distortion")
plt.legend()

# %% [markdown]
# A short memory follows quickly and trembles; a long one is slow. When an encoder moves the latents all the time,
# following matters: in the [utilisation study](../results/utilisation.md) decay 0.9 beats 0.99 by 0.29 dB after 1,000
# steps, and after 30 epochs nothing of it is left.
#
# ## Questions
#
# `codebound course check ema my_answer.py`
#
# 1. *Understanding.* `batches_to_forget(decay, share)`: after how many batches only `share` of the distance from the
#    start is left.
# 2. *Extension.* `tremor(decay, variance, count)`: the variance of a codeword around its mean in steady state.
# 3. *Theory.* `decay_like_mean(batch_number)`: the decay that makes the average the plain mean of batches 1, 2, 3, …
# 4. *Implementation.* `ema_update(counts, sums, z, index, decay)`: new counts, new sums, new codewords.
# 5. *Research.* `corrected(sums, counts, decay, steps)`: codewords from averages that began at zero, without their
#    bias.

# %% [markdown]
# # 3. The bound: rate-distortion and water-filling
#
# How small can the distortion be at $R$ bits, whatever the code? Shannon (1959) answered: for a source $X$ no code of
# any length gets below the distortion $D$ at which the **rate-distortion function** is $R$,
#
# $$R(D) = \min_{p(\hat x \mid x)\,:\ \mathbb{E}\|X-\hat X\|^2 \le D} I(X; \hat X),$$
#
# and codes of long blocks come as near as one likes. $I$ is the **mutual information**: by how many bits knowing $\hat
# X$ shortens the description of $X$, $I(X;\hat X) = h(X) - h(X \mid \hat X)$, where $h(X) = -\mathbb{E}\log_2 f(X)$ is
# the **differential entropy**.
#
# ## The Gaussian, derived
#
# Let $X \sim N(0,\sigma^2)$ and let $\hat X$ have $\mathbb{E}(X-\hat X)^2 \le D < \sigma^2$. Then
#
# $$I(X;\hat X) = h(X) - h(X-\hat X \mid \hat X) \ \ge\ h(X) - h(X-\hat X)\ \ge\ \tfrac12\log_2(2\pi e\,\sigma^2) - \tfrac12\log_2(2\pi e\,D).$$
#
# First step: given $\hat X$, subtracting it changes no entropy. Second: conditions can only lower entropy. Third: of
# all densities of variance at most $D$ the Gaussian has the largest entropy. (For density $f$ and the Gaussian $g$ of
# its variance $0 \le \int f\log_2(f/g) = -h(f) - \int f\log_2 g$, and $\int f\log_2 g$ depends on the variance alone,
# so it equals $-h(g)$.) Hence
#
# $$R(D) \ge \tfrac12\log_2\frac{\sigma^2}{D}, \qquad D(R) = \sigma^2\,2^{-2R}.$$
#
# Equality: choose $\hat X \sim N(0,\sigma^2-D)$ and $X = \hat X + N$ with $N\sim N(0,D)$ independent. All three steps
# are then equalities. Note what it says: **the best reproduction has less variance than the source**, $\sigma^2 - D$.

# %%
import matplotlib.pyplot as plt
import numpy as np

from codebound.theory import bounds, gaussian

print(
    f"one bit for N(0,1): D = {gaussian.distortion_rate(1.0, 1):.3f}, of which {gaussian.rate_distortion(0.25, 1):.1f} bit again"
)
print(f"8 bits for 8 of them: D = {gaussian.distortion_rate(8.0, 8):.3f} for the vector")

# %% [markdown]
# ## Components of unequal variance: water-filling
#
# Independent $X_i \sim N(0,\lambda_i)$ may share the bits as we like. Minimise $\sum_i \tfrac12\log_2(\lambda_i/D_i)$
# under $\sum_i D_i = D$ and $D_i \le \lambda_i$. The derivative with respect to $D_i$ is $-1/(2\ln 2\,D_i)$. If two
# components below their ceilings had unequal derivatives, moving a little distortion from one to the other would save
# bits. So all of them have the same $D_i = \theta$, and a component with $\lambda_i \le \theta$ gets no bits at all:
#
# $$D_i = \min(\lambda_i, \theta), \qquad R_i = \max\bigl(0, \tfrac12\log_2(\lambda_i/\theta)\bigr).$$
#
# $\theta$ is the water level. Components that stick out of the water pay bits until they are cut down to it. Correlated
# components are first turned to their principal axes, which changes no squared error.

# %%
# Figure: Reverse water-filling at 6 bits. What stands above the water level is described, what is below is given up.
variances = np.array([9.0, 4.0, 2.0, 1.0, 0.5, 0.25])
filled = gaussian.water_filling(variances, 6.0)
plt.bar(range(6), variances, color="#c3cad5", label="variance")
plt.bar(range(6), filled.distortions, color="#2f6fdb", label="distortion that remains")
plt.axhline(filled.level, color="black", linestyle="--", label="water level θ")
for i, rate in enumerate(filled.rates):
    plt.text(i, max(variances[i], filled.level) + 0.1, f"{rate:.2f} bit", ha="center")
plt.xlabel("component")
plt.legend()

# %%
equal = np.sum(variances * 2.0 ** (-2 * 6.0 / 6))
print(f"water-filling leaves {filled.distortion:.3f}; one bit for each would leave {equal:.3f}")
print("variance of the best reproduction", np.round(variances - filled.distortions, 3))

# %% [markdown]
# A check that needs no theorem: give the six bits to the components in steps of a hundredth, each time where it lowers
# $D$ most.

# %%
rates = np.zeros(6)
for _ in range(600):
    gains = variances * 2.0 ** (-2 * rates) * (1 - 2.0 ** (-2 * 0.01))
    rates[gains.argmax()] += 0.01
print("greedy", np.round(rates, 2), "water-filling", np.round(filled.rates, 2))

# %% [markdown]
# ## Sources that are not Gaussian: Shannon's lower bound
#
# The first two steps above hold for every density, so for $d$ components
#
# $$R(D) \ \ge\ h(X) - \tfrac d2\log_2\bigl(2\pi e\,D/d\bigr),$$
#
# Shannon's lower bound. At equal variance the Gaussian has the largest $h$, so it is the hardest source: everything
# else can be coded better. A Laplace density of variance 1 has $h = \log_2(e\sqrt 2) = 1.94$ bits where the Gaussian
# has $2.05$. `theory.entropy` estimates $h$ from samples, with an interval; `codebound limits data` then prints the
# bound for your vectors.

# %%
# Figure: The bound for a Gaussian and for a Laplace density of the same variance.
rate = np.linspace(0.5, 4, 50)
laplace_entropy = np.log2(np.e * np.sqrt(2))
for name, entropy in (("Gaussian", 0.5 * np.log2(2 * np.pi * np.e)), ("Laplace", laplace_entropy)):
    plt.semilogy(rate, [bounds.shannon_lower_bound(entropy, 1, float(r)) for r in rate], label=name)
plt.xlabel("bits")
plt.ylabel("least distortion")
plt.legend()

# %% [markdown]
# ## What "a bound" means
#
# It is about *all* codes, also those of infinite length. A codebook of 256 words in 8 dimensions is not infinite:
# nothing of that size gets below 2.479, where Shannon's bound is 2.0 (`codebound limits gaussian --dim 8
# --codebook-size 256`; `theory.converse` proves it by linear programming). So three numbers stand beside a codebook:
# Shannon's bound, what its size allows, and what it does.

# %%
from codebound.theory.converse import converse

limit = converse(8, 256)
print(
    f"Shannon {gaussian.distortion_rate(8.0, 8):.3f}, any 256 words {limit.certified:.3f}, best known {bounds.best_known(8, 256).distortion:.3f}"
)

# %% [markdown]
# ## Questions
#
# `codebound course check rate-distortion my_answer.py`
#
# 1. *Understanding.* `bits_for_20_db`: bits per component that bring a Gaussian's distortion 20 dB below its variance.
# 2. *Extension.* `laplace_bound(rate_bits, variance)`: Shannon's lower bound on the distortion of a Laplace density.
# 3. *Theory.* `reproduction_variance(variance, distortion)`: of the best reproduction of a Gaussian.
# 4. *Implementation.* `water_filling(variances, rate_bits)`: the distortions of the components.
# 5. *Research.* `worth_of_axes(covariance, rate_bits)`: by how many dB principal axes with water-filling beat equal
#    bits on the raw components.

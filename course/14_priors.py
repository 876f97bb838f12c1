# %% [markdown]
# # 14. Priors and sampling
#
# A tokenizer's indices are not uniform and not independent. A **prior** is a model of them, $p(z_1,\dots,z_n)$. It has
# two uses, which are one:
#
# - **files**: an entropy coder spends $-\log_2 p(z)$ bits (chapter 5: the KL term, no longer $\log K$);
# - **new pictures**: draw $z\sim p$ and decode.
#
# ## Why the log-likelihood is both
#
# The mean length of a code made for $p$ when indices come from $q$ is
#
# $$\mathbb{E}_q[-\log_2 p(z)] = H(q) + \mathrm{KL}(q\,\|\,p),$$
#
# so the bits above the entropy are a distance between the model and the truth: every bit saved is a step towards
# samples that can't be told from real ones. The chain rule makes it trainable: $p(z) = \prod_i p(z_i \mid z_{<i})$,
# each factor a classification over $K$ words.
#
# ## Counted, in small
#
# Before networks: tables. The indices of photographs by a code of 4×4 patches. How many bits does an index cost if one
# knows nothing, frequencies, the left neighbour, the left and the upper one?

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from codebound import VectorQuantizer
from codebound.data.images import photographs
from codebound.generators import default_model

torch.manual_seed(0)


def patches(picture):
    grey = torch.tensor(picture.pixels).float().mean(-1) / 255
    return grey.unfold(0, 4, 4).unfold(1, 4, 4).flatten(2)


vq = VectorQuantizer(16, 16)
grids = {split: [patches(p) for p in photographs(split)] for split in ("train", "held_out")}
vq.init_(torch.cat([g.flatten(0, 1) for g in grids["train"]])[::7])
vq.eval()
indices = {split: [vq.encode(g).squeeze(-1).numpy() for g in found] for split, found in grids.items()}


def bits(context):
    """Bits an index on the held-out photographs, by counts of the training ones; context gives the table's row."""
    counts = np.full((16**3, 16), 0.1)
    for grid in indices["train"]:
        np.add.at(counts, (context(grid), grid[1:, 1:]), 1)
    p = counts / counts.sum(1, keepdims=True)
    return float(
        np.concatenate([-np.log2(p[context(g), g[1:, 1:]]).ravel() for g in indices["held_out"]]).mean()
    )


costs = {
    "nothing": 4.0,
    "frequencies": bits(lambda g: 0 * g[1:, 1:]),
    "left": bits(lambda g: g[1:, :-1]),
    "left and up": bits(lambda g: g[1:, :-1] + 16 * g[:-1, 1:]),
    "and up-left": bits(lambda g: g[1:, :-1] + 16 * g[:-1, 1:] + 256 * g[:-1, :-1]),
}
for name, cost in costs.items():
    print(f"{name:12s} {cost:.3f} bits an index")

# %% [markdown]
# Conditions can only lower the entropy; but more of them need more counts, and at some point a table learns its
# training set. A network shares what it learns between contexts: the packaged integer prior codes the first level of
# the default tokenizer at less than half of its nine bits.
#
# ## New pictures
#
# A prior of Fashion-MNIST is in the package: a transformer over 7×7 indices, told the class. `bits` is exact, as it is
# a product of conditionals.

# %%
# Figure: New pictures from the packaged prior, two of each of four classes.
prior, tokenizer = default_model()
rows = [
    tokenizer.decode(prior.sample(6, labels=name, seed=1)) for name in ("dress", "sneaker", "shirt", "bag")
]
_, axes = plt.subplots(1, 1)
axes.imshow(torch.cat([torch.cat(list(row[:, 0]), dim=1) for row in rows]).clamp(0, 1), cmap="gray")
axes.axis("off")

# %%
dresses = prior.sample(20, labels="dress", seed=2)
print(
    f"a dress costs {float(prior.bits(dresses, 'dress').mean()):.0f} bits as a dress, {float(prior.bits(dresses, 'sneaker').mean()):.0f} as a sneaker"
)
print(f"without a prior: {49 * np.log2(prior.layout.grids[0].codebook_sizes[0]):.0f} bits")

# %% [markdown]
# That difference classifies: by Bayes $p(\text{class}\mid z) \propto p(z \mid \text{class})$, a generator is a
# classifier.
#
# ## Temperature, top-k, top-p, guidance
#
# Drawing from $p^{1/T}$ with $T<1$, from the $k$ likeliest, or from the smallest set of mass $p$ favours what is
# likely: better looking pictures, less variety. **Guidance** draws from $p(z)\,\bigl(p(z\mid c)/p(z)\bigr)^{g}$: with
# logits $\ell = \ell_\varnothing + g(\ell_c - \ell_\varnothing)$. $g=1$ is the model itself, and none of these is the
# model any more: bits go up, and the distribution narrows. Watch the entropy of one draw:

# %%
# Figure: Entropy of a draw from a distribution over 512 words at different temperatures.
logits = torch.randn(512, generator=torch.Generator().manual_seed(0)) * 2
temperatures = np.linspace(0.2, 2, 40)
entropy = [
    float(torch.distributions.Categorical(logits=logits / t).entropy() / np.log(2)) for t in temperatures
]
plt.plot(temperatures, entropy)
plt.axhline(9, color="black", linestyle="--", label="log₂ 512")
plt.xlabel("temperature")
plt.ylabel("entropy, bits")
plt.legend()

# %% [markdown]
# ## Questions
#
# `codebound course check priors my_answer.py`
#
# 1. *Understanding.* `bits_of(probabilities)`: what a sequence costs whose indices had these probabilities.
# 2. *Extension.* `guided(unconditional, conditional, strength)`: logits under guidance.
# 3. *Theory.* `bits_wasted(q, p)`: above the entropy, when indices from q are coded for p.
# 4. *Implementation.* `top_p(probabilities, mass)`: the smallest set of likeliest words with at least this mass,
#    renormalised, others 0.
# 5. *Research.* `conditional_entropy(grid, codebook_size)`: plug-in entropy of an index given its left neighbour, in
#    bits.

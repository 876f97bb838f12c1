# %% [markdown]
# # 11. I(X; Z) ≤ log K: what an index can know
#
# An index $Z$ with $K$ values carries at most $\log_2 K$ bits about anything:
#
# $$I(X;Z) = H(Z) - H(Z\mid X) \ \le\ H(Z)\ \le\ \log_2 K .$$
#
# The first because entropy is not negative; the second because the uniform distribution has the largest entropy
# ($\log_2 K - H(Z) = \mathrm{KL}(p_Z\,\|\,\text{uniform}) \ge 0$). If $Z$ is a function of $X$, as for a nearest
# codeword, $H(Z \mid X) = 0$ and $I(X;Z)=H(Z)$: **all that the index knows is its entropy**. The *perplexity*
# $2^{H(Z)}$ says how many equally used codewords would carry as much.
#
# ## What follows
#
# - **Dead codewords** cost $\log_2 K - H(Z)$ bits that are paid and not used (with codes of fixed length).
# - **Nothing later helps.** For a chain $X \to Z \to \hat X \to Y$ information can only fall (*data processing*:
#   $I(X;Y) \le I(X;Z)$, because $I(X;Z,Y) = I(X;Z) + 0 = I(X;Y) + I(X;Z\mid Y)$). A decoder, a prior, a classifier on
#   the tokens: none knows more of $X$ than $H(Z)$ bits.
# - **Distortion.** As $I(X;\hat X) \le H(Z) \le \log_2 K$, the distortion is at least $D(H(Z))$, which is at least
#   $D(\log_2 K)$.
#
# ## Counted
#
# From samples, entropy is estimated too low: with counts $n_j$ the plug-in estimate $-\sum
# \frac{n_j}{N}\log\frac{n_j}{N}$ has bias about $-(K_+-1)/(2N\ln 2)$ bits (Miller 1955, Madow), $K_+$ the codewords
# seen. With few samples per codeword it is far off:

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from codebound import VectorQuantizer
from codebound.metrics import CodeUsage
from codebound.search import nearest
from codebound.theory import gaussian
from codebound.theory.lloyd import lloyd

rng = np.random.default_rng(0)


def plug_in(counts):
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


for samples in (256, 1024, 8192):
    estimates = [plug_in(rng.multinomial(samples, np.full(1024, 1 / 1024))) for _ in range(20)]
    seen = [(rng.multinomial(samples, np.full(1024, 1 / 1024)) > 0).sum() for _ in range(20)]
    corrected = np.mean(estimates) + (np.mean(seen) - 1) / (2 * samples * np.log(2))
    print(
        f"{samples:5d} samples of 1,024 equal codewords: {np.mean(estimates):.2f} bits, corrected {corrected:.2f}, true 10"
    )

# %% [markdown]
# That is why perplexity of one batch can't be compared between batch sizes (`metrics.CodeUsage` counts a whole set).

# %%
torch.manual_seed(0)
z = torch.randn(50_000, 8)
vq = VectorQuantizer(8, 256)
vq.init_(z[:8192])
vq.eval()
usage = CodeUsage(256)
usage.update(vq.encode(z).squeeze(-1))
found = usage.compute()
print(
    f"H(Z) = {float(found['entropy_bits']):.3f} of 8 bits; perplexity {float(found['perplexity']):.0f} of 256"
)

# %% [markdown]
# ## The distortion is bounded by the entropy
#
# Take codebooks of 256 words of which more and more are unused. Distortion follows $D(H(Z))$, not $D(\log_2 K)$.

# %%
# Figure: Distortion of codebooks with some of 256 codewords missing, beside the bound at their entropy.
points = []
for used in (4, 8, 16, 32, 64, 128, 256):
    words = lloyd(z[:20_000], z[:used].clone(), iterations=30).codebook
    index = nearest(z, words)
    counts = np.bincount(index.numpy(), minlength=256)
    points.append((plug_in(counts), float((z - words[index]).square().sum(1).mean())))
entropies, errors = zip(*points)
plt.plot(entropies, errors, "o", label="codebooks")
line = np.linspace(2, 8, 50)
plt.plot(line, [gaussian.distortion_rate(float(h), 8) for h in line], color="black", label="D(H(Z))")
plt.axhline(gaussian.distortion_rate(8.0, 8), color="black", linestyle="--", label="D(log₂ K)")
plt.xlabel("entropy of the index, bits")
plt.ylabel("distortion")
plt.legend()

# %% [markdown]
# ## What a hierarchy can gain
#
# Two levels $Z_1, Z_2$ carry
#
# $$I(X; Z_1, Z_2) = I(X;Z_1) + I(X;Z_2\mid Z_1) \le \log_2 K_1 + \log_2 K_2 ,$$
#
# **the same bits as one level of $K_1K_2$ words**, never more. A hierarchy can't raise the bound; it can (a) make a code
# of that size searchable, (b) put bits where they pay, (c) be easier to model by a prior. Equality needs $Z_2$ to be
# independent of $Z_1$ and uniform; what is shared, $I(Z_1;Z_2)$, is paid twice by fixed-length codes, and can be won back
# by an entropy code that knows $Z_1$. Measured on a residual code:

# %%
from codebound import Residual

residual = Residual([VectorQuantizer(8, 32, seed=0), VectorQuantizer(8, 32, seed=1)])
residual.init_(z[:8192])
indices = residual.eval().encode(z)
joint = np.zeros((32, 32))
np.add.at(joint, (indices[:, 0].numpy(), indices[:, 1].numpy()), 1)
h1, h2, h12 = plug_in(joint.sum(1)), plug_in(joint.sum(0)), plug_in(joint.ravel())
print(f"H(Z1) {h1:.3f} + H(Z2) {h2:.3f} − I(Z1; Z2) {h1 + h2 - h12:.3f} = {h12:.3f} bits of {2 * 5}")

# %% [markdown]
# ## Questions
#
# `codebound course check information my_answer.py`
#
# 1. *Understanding.* `most_bits(codebook_size)`: that an index can carry.
# 2. *Extension.* `least_distortion(counts, dim)`: the bound on the distortion of $N(0, I)$ for an index with these
#    counts.
# 3. *Theory.* `paid_twice(joint)`: $I(Z_1;Z_2)$ of a table of joint counts, in bits.
# 4. *Implementation.* `perplexity(counts)`: with counts of zero among them.
# 5. *Research.* `corrected_entropy(counts)`: the plug-in estimate with Miller and Madow's correction, in bits.

# %% [markdown]
# # 17. How to judge a tokenizer
#
# A number without its conditions says little. What to ask of any figure in a paper, or of your own:
#
# | question | why |
# |---|---|
# | on which data? | on training data a codebook flatters itself (chapter 2) |
# | over how many seeds, with what interval? | gains of a percent are often the luck of a run |
# | at how many bits? | distortion without rate is half a number |
# | counted how? | $\log_2 K$, index entropy, and whole files differ (chapter 11) |
# | beside which limit? | 3 dB is much if 4 are possible, and little if 20 are |
# | in which feature space? | two "FID"s are comparable only with the same network and number of samples |
#
# ## Rate
#
# The same indices, three rates: nominal, by their entropy, by a prior. And a figure per batch is not one of the whole
# set:

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from codebound import VectorQuantizer
from codebound.data.images import photographs
from codebound.metrics import CodeUsage, Gap
from codebound.metrics.distributions import frechet
from codebound.metrics.likeness import psnr, ssim
from codebound.metrics.rate_distortion import RateCurve, bd_rate
from codebound.reporting.statistics import mean_interval
from codebound.tokenizers import ImageTokenizer

torch.manual_seed(0)
z = torch.randn(20_000, 8) * torch.linspace(2, 0.3, 8)
vq = VectorQuantizer(8, 512)
vq.init_(z[:8192])
vq.eval()
indices = vq.encode(z).squeeze(-1)
for batch in (256, 2048, 20_000):
    usage = CodeUsage(512)
    values = []
    for part in indices.split(batch):
        usage.reset()
        usage.update(part)
        values.append(float(usage.compute()["perplexity"]))
    print(f"perplexity by batches of {batch:6d}: {np.mean(values[: 20_000 // batch]):.0f}")

# %% [markdown]
# ## Distance from the limit
#
# `metrics.Gap` puts the distortion beside Shannon's lower bound of an estimated entropy (an estimate, with an
# interval), and beside the Gaussian of equal covariance (a reference that other data may beat).

# %%
gap = Gap(8, [512])
q = vq(z)
gap.update(z, q.z_q, q.indices)
found = gap.compute()
print(
    f"{float(found['gap_db']):.2f} dB [{float(found['gap_db_low']):.2f}, {float(found['gap_db_high']):.2f}] above Shannon's lower bound,"
)
print(f"{float(found['gaussian_reference_db']):.2f} dB above the Gaussian of equal covariance")

# %% [markdown]
# ## Pictures
#
# PSNR is squared error on a logarithmic scale, $-10\log_{10}\mathrm{MSE}$. Mean of PSNRs or PSNR of the mean error?
# They differ (Jensen), and both are in use. SSIM compares means, variances and correlation in windows. Neither sees
# realism (chapter 13).

# %%
tokenizer = ImageTokenizer.from_pretrained("default")
errors = []
for photograph in photographs("held_out"):
    x = torch.tensor(photograph.pixels).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        y = tokenizer.decode(tokenizer.encode(x), size=x.shape[-2:]).clamp(0, 1)
    errors.append(float((x - y).square().mean()))
    print(f"{photograph.name:11s} {float(psnr(x, y)):.2f} dB, SSIM {float(ssim(x, y)):.3f}")
print(
    f"mean of PSNRs {np.mean(-10 * np.log10(errors)):.2f} dB, PSNR of the mean error {-10 * np.log10(np.mean(errors)):.2f} dB"
)

# %% [markdown]
# ## Curves
#
# One point of each of two codes says nothing if rates differ. Compare curves: Bjøntegaard's difference is the mean
# horizontal distance between them.

# %%
# Figure: Two codes at several rates. The second needs a tenth fewer bits at equal quality, by construction.
rates = np.array([0.1, 0.2, 0.4, 0.8])
quality = np.array([26.0, 28.5, 31.0, 33.5])
plt.semilogx(rates, quality, "o-", label="one")
plt.semilogx(0.9 * rates, quality, "s-", label="other")
plt.xlabel("bits per pixel")
plt.ylabel("PSNR, dB")
plt.legend()

# %%
print(
    f"difference in rate: {bd_rate(RateCurve(np.log(0.9 * rates), quality), RateCurve(np.log(rates), quality)):.1f} %"
)

# %% [markdown]
# ## Distributions
#
# The Fréchet distance of features, $\|\mu-\nu\|^2+\operatorname{tr}(\Sigma+T-2(\Sigma T)^{1/2})$, is not zero for two
# samples of *the same* source, and falls with their number. Always give a floor: real against real, at equal numbers.

# %%
# Figure: The Fréchet distance of two samples of one source, by their size: the floor that any comparison stands on.
sizes = [100, 300, 1000, 3000, 10_000]
floors = [[float(frechet(torch.randn(n, 32), torch.randn(n, 32))) for _ in range(5)] for n in sizes]
plt.loglog(sizes, np.mean(floors, axis=1), "o-")
plt.xlabel("samples of each")
plt.ylabel("Fréchet distance, same source")

# %% [markdown]
# ## Seeds
#
# Train twice and the numbers differ. A 95 % interval of the mean over $n$ seeds is $\pm t_{n-1}\,s/\sqrt n$; with three
# seeds $t=4.30$, so three runs can't tell small gains. Pair what can be paired: the same seed, data and start for both
# arms, and the interval of the *difference*.

# %%
rng = np.random.default_rng(0)
luck = rng.normal(0, 0.3, 5)
one, other = 28.0 + luck + rng.normal(0, 0.03, 5), 28.1 + luck + rng.normal(0, 0.03, 5)
for name, values in (("one", one), ("other", other), ("difference", other - one)):
    interval = mean_interval(list(values))
    print(f"{name:10s} {interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]")

# %% [markdown]
# ## Questions
#
# `codebound course check judging my_answer.py`
#
# 1. *Understanding.* `psnr_of(mse)`: in dB, for pictures in [0, 1].
# 2. *Extension.* `bits_per_pixel(file_bytes, height, width)`.
# 3. *Theory.* `smaller_psnr(errors)`: of the mean of PSNRs and the PSNR of the mean error the one that is never larger.
# 4. *Implementation.* `paired_interval(one, other)`: mean and 95 % interval of the difference over seeds.
# 5. *Research.* `frechet_1d(a, b)`: the Fréchet distance of two samples of numbers (unbiased variances).

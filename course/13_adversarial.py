# %% [markdown]
# # 13. Adversarial training: sharp instead of mean
#
# A decoder trained by squared error answers with the mean of all pictures that its indices may stand for (chapter 5). A
# mean of sharp pictures is blurred. At few bits that is the best in squared error, and it looks wrong. VQ-GAN (Esser
# and others 2021) adds a **discriminator** that learns to tell pictures from reconstructions, and a loss for deceiving
# it.
#
# ## Why a bound stands between the two
#
# Ask for the least squared error *and* for reconstructions distributed as the source. For any decoder with $\hat X$
# from $Z$ let $X^* = \mathbb{E}[X\mid Z]$, the best in squared error. As $X - X^*$ is uncorrelated with all functions
# of $Z$,
#
# $$\mathbb{E}\|X-\hat X\|^2 = \mathbb{E}\|X-X^*\|^2 + \mathbb{E}\|X^*-\hat X\|^2 .$$
#
# Draw $\hat X$ from $p(X\mid Z)$ (sample the posterior): it has the source's distribution, and $\mathbb{E}\|X^*-\hat
# X\|^2 = \mathbb{E}\|X-X^*\|^2$, so the error is *exactly twice* the least: **perfect realism costs at most 3 dB**
# (Blau and Michaeli 2018, 2019). Watch it for a Gaussian:

# %%
import copy

import matplotlib.pyplot as plt
import torch

from codebound.metrics.distributions import frechet
from codebound.nets.discriminator import PatchDiscriminator
from codebound.search import nearest
from codebound.theory.lloyd import lloyd

torch.manual_seed(0)
z = torch.randn(60_000, 2) @ torch.tensor([[1.0, 0.0], [0.6, 0.8]]).T
train, fresh = z[:40_000], z[40_000:]
words = lloyd(train, train[:8].clone()).codebook
cells, index = nearest(train, words), nearest(fresh, words)
mean = words[index]
drawn = torch.stack([train[cells == j][torch.randint(int((cells == j).sum()), ())] for j in index])
for name, out in (("mean of the cell", mean), ("drawn from the cell", drawn)):
    error = float((fresh - out).square().sum(1).mean())
    print(f"{name:20s} squared error {error:.3f}, Fréchet distance from the source {frechet(out, fresh):.4f}")

# %%
# Figure: Three bits a point. Left the source, middle the mean of each cell (least error), right a draw from each cell (twice the error).
_, axes = plt.subplots(1, 3, sharex=True, sharey=True)
for axis, shown, name in zip(
    axes, (fresh, mean, drawn), ("source", "least squared error", "distribution kept")
):
    axis.scatter(*shown[:1500].T, s=3)
    axis.set_title(name)

# %% [markdown]
# ## The game
#
# A discriminator $d$ is trained with the hinge loss
#
# $$L_d = \mathbb{E}\max(0, 1-d(x)) + \mathbb{E}\max(0, 1+d(\hat x)),$$
#
# the decoder with $L = \|x-\hat x\|^2 - \lambda\,\mathbb{E}\,d(\hat x)$. For given densities $p$ of pictures and $q$ of
# reconstructions $L_d$ is least, point by point, at $d = \operatorname{sign}(p-q)$, where it is $2 - \int|p-q|$: two
# minus twice the total variation distance. So the decoder is told to lower a distance of *distributions*.
#
# How large is $\lambda$? VQ-GAN balances the gradients at the decoder's last layer $w$:
#
# $$\lambda = \frac{\|\nabla_w L_{\text{rec}}\|}{\|\nabla_w L_{\text{adv}}\| + \delta} .$$
#
# Then both pull equally hard there, whatever their scale.
#
# ## In small
#
# A decoder with a source of noise, for points in the plane, eight indices. First squared error alone, then against a
# discriminator. Such games circle around their equilibrium; two habits calm them: a small penalty on the discriminator's
# slope at real data (Mescheder and others 2018), and a running mean of the decoder's weights.


# %%
def network(inputs, outputs):
    layers = [
        torch.nn.Linear(inputs, 64),
        torch.nn.LeakyReLU(0.2),
        torch.nn.Linear(64, 64),
        torch.nn.LeakyReLU(0.2),
    ]
    return torch.nn.Sequential(*layers, torch.nn.Linear(64, outputs))


def play(adversarial, steps=2500):
    torch.manual_seed(1)
    decoder, judge = network(4, 2), network(4, 1)
    average = copy.deepcopy(decoder)
    first = torch.optim.Adam(decoder.parameters(), lr=5e-4, betas=(0.5, 0.9))
    second = torch.optim.Adam(judge.parameters(), lr=2e-3, betas=(0.5, 0.9))

    def decode(c, net=decoder):
        return net(torch.cat([c, torch.randn(len(c), 2)], dim=1))

    for _ in range(steps):
        rows = torch.randint(len(train), (256,))
        x, c = train[rows], words[cells[rows]]
        out = decode(c)
        loss = (x - out).square().sum(1).mean()
        if adversarial:
            deceived = -judge(torch.cat([out, c], 1)).mean()
            last = decoder[-1].weight
            pulls = [
                torch.autograd.grad(part, last, retain_graph=True)[0].norm() for part in (loss, deceived)
            ]
            loss = loss + 2 * (pulls[0] / (pulls[1] + 1e-4)).clamp(max=1e4).detach() * deceived
        first.zero_grad()
        loss.backward()
        first.step()
        if adversarial:
            pictures = torch.cat([x, c], 1).requires_grad_()
            real, fake = judge(pictures), judge(torch.cat([out.detach(), c], 1))
            slope = torch.autograd.grad(real.sum(), pictures, create_graph=True)[0]
            loss_d = (
                torch.relu(1 - real).mean() + torch.relu(1 + fake).mean() + 0.1 * slope.square().sum(1).mean()
            )
            second.zero_grad()
            loss_d.backward()
            second.step()
        with torch.no_grad():
            for kept, weight in zip(average.parameters(), decoder.parameters()):
                kept.lerp_(weight, 0.005)
    with torch.no_grad():
        return decode(mean, average)


played = {
    name: play(adversarial)
    for name, adversarial in (("squared error", False), ("against a discriminator", True))
}
for name, out in played.items():
    error = float((fresh - out).square().sum(1).mean())
    print(f"{name:24s} squared error {error:.3f}, Fréchet distance {frechet(out, fresh):.4f}")

# %%
# Figure: What both decoders make of the same indices.
_, axes = plt.subplots(1, 3, sharex=True, sharey=True)
for axis, shown, name in zip(axes, (fresh, *played.values()), ("source", *played)):
    axis.scatter(*shown[:1500].T, s=3)
    axis.set_title(name)

# %% [markdown]
# With pictures the discriminator judges patches (each score sees a neighbourhood): `PatchDiscriminator`. `codebound
# train vqgan RUN` trains a finished tokenizer's decoder, or all of it, against one. PSNR falls while pictures look
# sharper: judge by both (chapter 17).

# %%
scores = PatchDiscriminator(3)(torch.rand(1, 3, 64, 64))
print("scores of a 64×64 picture:", tuple(scores.shape))

# %% [markdown]
# ## Questions
#
# `codebound course check adversarial my_answer.py`
#
# 1. *Understanding.* `price_of_realism_db`: what drawing from the posterior costs at most, in dB.
# 2. *Extension.* `least_hinge_loss(p, q)`: the discriminator's least loss for two discrete distributions.
# 3. *Theory.* `realistic_distortion(variance, rate_bits)`: of a Gaussian decoded by drawing from the posterior of an
#    optimal code.
# 4. *Implementation.* `hinge_losses(real, fake)`: the discriminator's loss, and the decoder's part.
# 5. *Research.* `adaptive_weight(loss, deceived, last)`: VQ-GAN's balance, for tensors with a graph.

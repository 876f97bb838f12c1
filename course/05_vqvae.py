# %% [markdown]
# # 5. The VQ-VAE and its loss
#
# A VQ-VAE (van den Oord, Vinyals and Kavukcuoglu 2017) is an autoencoder with a codebook in the middle:
#
# $$x \;\to\; z_e = \text{encoder}(x) \;\to\; z_q = c_{j(z_e)},\ \text{the nearest codeword} \;\to\; \hat x = \text{decoder}(z_q) .$$
#
# All that is kept of $x$ are the indices. Its loss has three parts, and $\mathrm{sg}$ ("stop gradient") says what is
# not moved by each:
#
# $$L = \underbrace{\|x - \hat x\|^2}_{\text{reconstruction}} + \underbrace{\|\mathrm{sg}(z_e) - c\|^2}_{\text{codebook}} + \beta\,\underbrace{\|z_e - \mathrm{sg}(c)\|^2}_{\text{commitment}} .$$
#
# - *Reconstruction* trains encoder and decoder. The gradient jumps over the quantizer (chapter 6).
# - *Codebook* moves codewords to the mean of their latents: its gradient is the one of chapter 2. An EMA does the same
#   (chapter 7).
# - *Commitment* keeps latents near their codewords. Without it latents may grow for ever: a larger scale makes no
#   reconstruction worse, as codewords follow.
#
# ## From a variational bound
#
# Where does this come from? For an encoder $q(j\mid x)$, a prior $p(j)$ and a decoder $p(x \mid j)$,
#
# $$-\log p(x) \le \mathbb{E}_q\bigl[-\log p(x\mid j)\bigr] + \mathrm{KL}\bigl(q(j\mid x)\,\|\,p(j)\bigr).$$
#
# (Write $\log p(x) = \log\sum_j q(j)\,\frac{p(x|j)\,p(j)}{q(j)}$ and take the logarithm inside the mean, where it can
# only fall: Jensen.) The VQ-VAE's encoder puts all weight on one $j$, and with the uniform prior $p(j)=1/K$ the KL term
# is $\log K$: a constant, which leaves the reconstruction. In bits: $\log_2 K$ a token, the rate. A Gaussian decoder's
# $-\log p(x\mid j)$ is a squared error. So *the VQ-VAE is rate-distortion at a fixed rate*; a trained prior (chapter
# 14) later pays fewer bits than $\log_2 K$.
#
# ## One from start to end
#
# Two dimensions of data on a curve, one latent dimension, four codewords: small enough to look at everything.

# %%
import matplotlib.pyplot as plt
import torch

from codebound import VectorQuantizer

torch.manual_seed(0)


def curve(count):
    t = torch.rand(count) * 3 - 1.5
    return torch.stack([t, torch.sin(2 * t)], dim=1) + 0.05 * torch.randn(count, 2)


def train(vq, latent=1, steps=1500, scale_free=False):
    encoder = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, latent))
    decoder = torch.nn.Sequential(torch.nn.Linear(latent, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), *vq.parameters()], lr=3e-3)
    vq.init_(encoder(curve(2000)).detach())
    history = []
    for _ in range(steps):
        x = curve(256)
        q = vq(encoder(x))
        reconstruction = (x - decoder(q.z_q)).square().sum(1).mean()
        optimizer.zero_grad()
        (reconstruction + q.loss).backward()
        optimizer.step()
        vq.update_(q)
        history.append((reconstruction.item(), encoder(x).std().item()))
    vq.eval()
    return encoder, decoder, torch.tensor(history)


vq = VectorQuantizer(1, 8)
encoder, decoder, history = train(vq)
x = curve(4000)
index = vq.encode(encoder(x)).squeeze(-1)
print(
    f"three bits a point; reconstruction {history[-50:, 0].mean():.3f} of a variance of {float(x.var(0).sum()):.2f}"
)

# %%
# Figure: Eight codewords on a curve. Each colour is a cell, each star what its index decodes to: the mean of its points.
plt.scatter(*x.T, c=index, s=3, cmap="tab10")
with torch.no_grad():
    words = decoder(vq.codewords())
plt.scatter(*words.T, marker="*", s=140, color="black")
plt.gca().set_aspect("equal")

# %% [markdown]
# The decoder sees one of eight inputs, so the best it can answer is the mean of the points with that index (chapter 1,
# second condition):

# %%
with torch.no_grad():
    means = torch.stack([x[index == j].mean(0) for j in range(8)])
    print(
        "largest distance of a decoded codeword from its cell's mean",
        f"{float((decoder(vq.codewords()) - means).norm(dim=1).max()):.2f}",
    )

# %% [markdown]
# ## What the commitment does
#
# Three values of its weight $\beta$. The commitment holds the latents near the codewords; too much of it holds them
# back.

# %%
# Figure: The scale of the latents during training for three weights of the commitment.
for beta in (0.0, 0.25, 4.0):
    torch.manual_seed(1)
    layer = VectorQuantizer(1, 8, loss_weights={"commitment": beta})
    _, _, run = train(layer, steps=800)
    plt.plot(run[:, 1], label=f"β = {beta:g}, reconstruction {float(run[-50:, 0].mean()):.3f}")
plt.xlabel("step")
plt.ylabel("standard deviation of the latents")
plt.legend()

# %% [markdown]
# ## Real pictures
#
# `codebound train` is this, with a convolutional network, on photographs: five minutes, a report, and the numbers on
# pictures that it has not seen ([train a tokenizer](../start/tokenizer.md)). The packaged tokenizer has six indices for
# each 8×8 pixels:

# %%
# Figure: A photograph that no training saw, and what its indices decode to with one and with all six indices a place.
from codebound.data.images import photographs
from codebound.tokenizers import ImageTokenizer

tokenizer = ImageTokenizer.from_pretrained("default")
picture = torch.tensor(photographs("held_out")[0].pixels).permute(2, 0, 1)[None] / 255
with torch.no_grad():
    indices = tokenizer.encode(picture)
    size = picture.shape[-2:]
    decoded = [tokenizer.decode(i, size=size) for i in (indices[..., :1], indices)]
_, axes = plt.subplots(1, 3)
for axis, shown in zip(axes, (picture, *decoded)):
    axis.imshow(shown[0].permute(1, 2, 0).clamp(0, 1))
    axis.axis("off")

# %% [markdown]
# ## Questions
#
# `codebound course check vqvae my_answer.py`
#
# 1. *Understanding.* `bits_per_pixel(codebook_size, side, levels)`: of a grid with one token for `side`×`side` pixels,
#    `levels` indices each.
# 2. *Extension.* `kl_to_uniform(q)`: bits between a distribution over K codewords and the uniform prior.
# 3. *Theory.* `best_answers(x, index, count)`: what a decoder of unlimited power makes of each index.
# 4. *Implementation.* `vq_loss(z, codebook, beta)`: codebook plus commitment loss, with the right stop gradients.
# 5. *Research.* `gradient_by_hand(z, codebook, beta)`: the gradient of that loss with respect to z, without autograd.

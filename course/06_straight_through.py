# %% [markdown]
# # 6. What straight-through really differentiates
#
# The nearest codeword is a step function of $z$: its derivative is zero almost everywhere, so no gradient would reach
# the encoder. The **straight-through estimator** pretends that it is the identity:
#
# $$z_q = z + \mathrm{sg}(c - z), \qquad \frac{\partial z_q}{\partial z} := I .$$
#
# Forward it is $c$, backward it is $z$. Is that a gradient of anything? Yes.
#
# ## The derivative of a smoothed problem
#
# Let $Q$ be the quantizer and $\ell$ what comes after it, $f(z) = \ell(Q(z))$. Smooth $f$ by adding noise to $z$ before
# quantizing:
#
# $$F(z) = \mathbb{E}_u\, \ell\bigl(Q(z+u)\bigr).$$
#
# Take one dimension, a uniform quantizer of step $\Delta$, and $u$ uniform on an interval of exactly one step. As $z$
# grows by $\mathrm dz$, the part $\mathrm dz/\Delta$ of the noise changes its cell, from the codeword $q$ at the lower
# end of the interval to $q+\Delta$ at its upper end:
#
# $$F'(z) = \frac{\ell(q+\Delta) - \ell(q)}{\Delta} .$$
#
# **A difference quotient of $\ell$ over one step.** For a linear $\ell$ this is $\ell'$, exactly what straight-through
# says with its $I$. For quadratic $\ell$ it is $\ell'$ in the middle of the step. So:
#
# - straight-through is the exact derivative of the smoothed problem where $\ell$ is linear over a cell;
# - otherwise its error is of the order of the curvature of $\ell$ times the width of the cell.
#
# ### The check
#
# A finite difference of $F$, from noise integrated on a fine grid, beside the formula and beside straight-through.

# %%
import matplotlib.pyplot as plt
import torch

from codebound import VectorQuantizer
from codebound.quantize import Frozen, Never, Rotation, StraightThrough

step = 0.5
noise = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000 * step - step / 2


def quantized(z):
    return step * torch.round(z / step)


def smoothed(loss, z):
    return loss(quantized(z[:, None] + noise)).mean(1)


def difference(loss, z, h=1e-3):
    return (smoothed(loss, z + h) - smoothed(loss, z - h)) / (2 * h)


def straight_through(loss, z):
    leaf = z.clone().requires_grad_()
    loss(leaf + (quantized(leaf) - leaf).detach()).sum().backward()
    return leaf.grad


z = torch.linspace(-1.1, 1.1, 88, dtype=torch.float64)
losses = {
    "linear": lambda q: 2 * q,
    "quadratic": lambda q: (q - 0.3) ** 2,
    "sharp": lambda q: torch.tanh(6 * q),
}
lower = quantized(z - step / 2)
for name, loss in losses.items():
    formula = (loss(lower + step) - loss(lower)) / step
    wrong = float((difference(loss, z) - formula).abs().mean())
    off = float((straight_through(loss, z) - formula).abs().mean())
    print(f"{name:10s} finite difference − formula {wrong:.3f}, straight-through − formula {off:.3f}")

# %%
# Figure: The derivative of the smoothed problem (a finite difference) and what straight-through says, for three functions after the quantizer.
_, axes = plt.subplots(1, 3)
for axis, (name, loss) in zip(axes, losses.items()):
    axis.plot(z, difference(loss, z), color="black", label="smoothed problem")
    axis.plot(z, straight_through(loss, z), ".", color="#d6336c", label="straight-through")
    axis.set_title(name)
axes[0].set_ylim(0, 4)
axes[0].legend()

# %% [markdown]
# Linear: no difference. Quadratic: off by curvature times half a step, too low above a codeword and too high below it,
# so that the errors cancel over a cell and the mean gradient over many latents is right. Sharp ($\tanh 6q$ bends much
# within one cell): straight-through sees the slope at the codeword alone, and is far off. **It is good where the
# decoder is smooth at the scale of a cell**: many codewords make it better.
#
# ## Through a whole network
#
# The same in a layer: the gradient that reaches the encoder is the gradient at the codeword, $\nabla_z = \ell'(c)$, for
# every $z$ of the cell.

# %%
torch.manual_seed(0)
vq = VectorQuantizer(2, 8, update=Frozen(), revival=Never(), estimator=StraightThrough())
vq.set_codewords_(torch.randn(8, 2))
latents = torch.randn(500, 2, requires_grad=True)
out = vq(latents)
target = torch.tensor([1.0, -0.5])
(out.z_q - target).square().sum().backward()
assert torch.allclose(latents.grad, 2 * (out.z_q.detach() - target), atol=1e-6)
print("the gradient at z is that at its codeword, for all", len(latents), "latents")

# %% [markdown]
# ## Others
#
# The **rotation trick** (Fifty et al. 2024) multiplies the gradient by the rotation and scale that take $z$ to $c$: the
# angle between gradient and latent is that between gradient and codeword. It changes direction where $z$ and $c$ differ
# in direction:

# %%
# Figure: Gradients that reach the encoder under straight-through and under the rotation trick, for latents of two dimensions.
_, axes = plt.subplots(1, 2, sharex=True, sharey=True)
for axis, estimator in zip(axes, (StraightThrough(), Rotation())):
    layer = VectorQuantizer(2, 8, update=Frozen(), revival=Never(), estimator=estimator)
    layer.set_codewords_(vq.codewords())
    leaf = latents.detach()[:150].clone().requires_grad_()
    (layer(leaf).z_q - target).square().sum().backward()
    axis.quiver(*leaf.detach().T, *(-leaf.grad).T, width=0.003, scale=80, color="#2f6fdb")
    axis.scatter(*layer.codewords().T, marker="*", color="black", s=60, zorder=3)
    axis.set_title(type(estimator).__name__)

# %% [markdown]
# Which is better is a question for experiments: level in 20 of 24 linear comparisons, and with each at its better
# $\beta$ worse on three sources with a network ([measured](../results/estimators.md)).
#
# ## Questions
#
# `codebound course check straight-through my_answer.py`
#
# 1. *Understanding.* `gradient_at(z, codebook, target)`: the straight-through gradient of $\|z_q - t\|^2$ at $z$.
# 2. *Extension.* `smoothed_derivative(loss, z, step)`: the derivative above, for a function of numbers.
# 3. *Theory.* `largest_error(curvature, step)`: of straight-through for a quadratic $\ell$ with $\ell'' =$ curvature.
# 4. *Implementation.* `straight_through(z, c)`: value of c, gradient of z, none for c.
# 5. *Research.* `half_way(z, c)`: value of c; half of the gradient goes to z and half to c.

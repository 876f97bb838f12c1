# %% [markdown]
# # 2. Many numbers at once: vector quantization, and why k-means
#
# Now $x$ is a vector of $d$ components, and the $K$ **codewords** $c_1, \dots, c_K$ are vectors too: a **codebook**. An
# index costs $\log_2 K$ bits per vector, $R = \log_2(K)/d$ per component. Nothing in chapter 1 needed $x$ to be one
# number:
#
# - given the codewords, each $x$ belongs to the nearest one; the cells are polygons, named after Voronoi;
# - given the cells, each codeword belongs at the mean of its cell.
#
# Lloyd's algorithm in $d$ dimensions is k-means.

# %%
import matplotlib.pyplot as plt
import torch

from codebound.search import assignment_sums, distortion, nearest
from codebound.theory import gaussian, lloyd

torch.manual_seed(0)

# %% [markdown]
# ## Why bother with vectors?
#
# Take two components that go together. Scalars, one level for each component, must put a rectangular grid of codewords
# over the plane, also where no data are. A codebook of the same size puts them where the data are.

# %%
# Figure: 64 codewords for correlated pairs. Left, eight levels for each component; right, a codebook. The same six bits.
mixing = torch.tensor([[1.0, 0.0], [0.9, 0.43589]])
z = torch.randn(20_000, 2) @ mixing.T
levels = torch.as_tensor(lloyd.lloyd_max(8).levels, dtype=torch.float32)
grid = torch.cartesian_prod(levels, levels)
start = z[torch.randperm(len(z))[:64]]
book = lloyd.lloyd(z, start).codebook
_, axes = plt.subplots(1, 2, sharex=True, sharey=True)
for axis, words in zip(axes, (grid, book)):
    axis.scatter(*z[:3000].T, s=2, color="#c3cad5")
    axis.scatter(*words.T, s=14, color="#2f6fdb")
    axis.set_title(f"distortion {distortion(z, words):.3f}")

# %% [markdown]
# Vectors win for three reasons (Lookabaugh and Gray 1989):
#
# - **memory**: components that go together are coded together, as above;
# - **shape**: even for independent components the codebook may fit the shape of the density, a ball rather than a cube;
# - **space filling**: cells can be rounder than cubes. Per component and at equal volume a hexagon's mean squared error
#   is 0.962 of a square's, and a ball of many dimensions reaches $12/(2\pi e) = 0.703$, which is 1.53 dB.
#
# Independent Gaussians have no memory to exploit; shape and space filling are worth up to $4.35$ dB in many dimensions.
# Here is what they are worth in few.

# %%
# Figure: k-means for independent Gaussians at one bit per component: more dimensions, less distortion, towards Shannon's bound.
dims, found = [1, 2, 4, 6, 8], []
for d in dims:
    train, fresh = torch.randn(20_000, d), torch.randn(50_000, d)
    words = lloyd.lloyd(train, train[: 2**d].clone(), iterations=60).codebook
    found.append(float(distortion(fresh, words)) / d)
plt.plot(dims, found, "o-", label="k-means, fresh data")
plt.axhline(0.25, color="black", linestyle="--", label="Shannon's bound")
plt.xlabel("dimensions d, with 2^d codewords")
plt.ylabel("distortion per component")
plt.legend()

# %%
for d, value in zip(dims, found):
    print(f"d = {d}: {gaussian.gap_db(value, 0.25):.2f} dB above the bound")

# %% [markdown]
# ## Why it can't go on like this
#
# At $R$ bits per component the codebook has $2^{Rd}$ words: 256 for one bit in eight dimensions, $10^{19}$ for two bits
# in 32. Searching takes $K \cdot d$ products a vector, and training needs samples for each word. What a codebook learns
# from few samples it can't keep on fresh data:

# %%
for samples in (512, 2_048, 16_384, 65_536):
    train, fresh = torch.randn(samples, 8), torch.randn(50_000, 8)
    words = lloyd.lloyd(train, train[:256].clone(), iterations=60).codebook
    print(
        f"{samples:6d} samples: {distortion(train, words):.3f} on them, {distortion(fresh, words):.3f} on fresh data"
    )

# %% [markdown]
# So always judge a codebook on data that it was not fitted to. (With few samples the left column is below what any
# codebook of 256 words can do on the source itself, 2.479: `codebound limits gaussian --dim 8 --codebook-size 256`.)
# Structured codes (chapter 10) trade some of the gain for size.
#
# ## Where k-means stops
#
# Lloyd's algorithm ends where both conditions hold, which is a stationary point: the derivative of $D$ with respect to
# a codeword is
#
# $$\frac{\partial D}{\partial c_j} = \frac{2}{N}\,\bigl(N_j c_j - \sum_{i\,:\,j(i)=j} x_i\bigr),$$
#
# twice count times codeword minus sum. So **counts and sums of the cells are all that any training of a codebook
# needs**: Lloyd's step sets the derivative to zero, gradient descent follows it, and EMA (chapter 7) averages both over
# batches. `search.assignment_sums` computes them.

# %%
index = nearest(z, book)
counts, sums = assignment_sums(z, index, len(book))
by_formula = 2 * (counts[:, None] * book.double() - sums) / len(z)
moving = book.double().requires_grad_()
((z.double() - moving[index]) ** 2).sum(1).mean().backward()
assert torch.allclose(by_formula, moving.grad, atol=1e-12)
print(f"largest derivative at the end of k-means: {float(by_formula.abs().max()):.4f}")

# %% [markdown]
# ## Questions
#
# `codebound course check vector my_answer.py`
#
# 1. *Understanding.* `bits_per_component(codebook_size, dim)`.
# 2. *Extension.* `space_filling_gain_db(second_moment)`: the gain over cubes, in dB, of cells with this normalised
#    second moment (cubes have $1/12$, hexagons $5/(36\sqrt 3)$).
# 3. *Theory.* `distortion_after_merge(n1, c1, n2, c2)`: by how much the sum of squared errors rises when two cells,
#    each with its mean as codeword, become one with the common mean.
# 4. *Implementation.* `lloyd_step(z, codebook)`: one step of k-means in PyTorch; a codeword without vectors stays.
# 5. *Research.* `sample_size(dim)`: enough training vectors that 2^dim codewords lose less than 10 % on fresh data (dim
#    from 2 to 6).

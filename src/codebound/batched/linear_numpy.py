"""The linear vector-quantized autoencoder trained with gradients derived by hand, in NumPy alone.

Model, for a batch x_1 … x_B in R^d, an encoder W [d, k] with orthonormal columns and codewords c_1 … c_K in R^k:

    z_i = Wᵀx_i        j(i) = argmin_j |z_i − c_j|²        q_i = c_{j(i)}        x̂_i = W q_i

    L = 1/B Σ_i  |x_i − W q̃_i|²  +  α |sg(z_i) − q_i|²  +  β |z_i − sg(q_i)|²

where q̃ has the value q and, straight through, the derivative of z: q̃ = z + sg(q − z).

**Encoder.** W acts twice in the first term. With e_i = x_i − W q_i and v_i = Wᵀe_i:

    as decoder (q̃ held):     ∂|e|²/∂W = −2 e qᵀ = −2 x qᵀ + 2 W q qᵀ
    as encoder (W held):      ∂|e|²/∂q̃ = −2 Wᵀe = −2 v,   ∂q̃/∂z = I,   z = Wᵀx   ⇒   −2 x vᵀ
    commitment:               ∂ β|z − sg(q)|²/∂W = 2β x (z − q)ᵀ

    G_W = 2/B Σ_i [ W q qᵀ − x (q + v − β(z − q))ᵀ ]

On the manifold WᵀW = I, so v = z − q and the bracket's second factor is βq + (1 − β)z: a blend. W·(symmetric matrix)
is normal to the manifold and moves nothing to first order, hence the step follows

    −2/B Σ_i x_i (β q_i + (1 − β) z_i)ᵀ .

At β = 1 this is the exact gradient of the distortion with assignments held, −2 E[x qᵀ]; at β = 0 it is −2 E[x zᵀ], the
gradient of −E|z|²: principal component analysis, which does not look at the codebook at all.

**Codebook.** Only the second term reaches it: G_c_j = 2α/B Σ_{i: j(i)=j} (c_j − z_i) = 2α (N_j c_j − m_j)/B.

**Step.** W ← polar(W − η_W G_W), C ← C − η_E G_C, polar(M) = M(MᵀM)^(−½).

Shapes: x [n, d], W [d, k], codebook [K, k]. Everything is computed in the dtype of x; nothing is checked for shape.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class State(NamedTuple):
    """The encoder W `[d, k]` and the codebook `[K, k]`."""

    encoder: np.ndarray
    codebook: np.ndarray


def nearest(z: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """argmin_j |z − c_j|² = argmax_j z·c_j − |c_j|²/2, `[n]`; the lowest index wins a tie."""
    scores = z @ codebook.T
    scores -= 0.5 * np.square(codebook).sum(-1)
    return scores.argmax(-1)


def cells(z: np.ndarray, indices: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts N_j `[K]` and sums m_j `[K, k]` of the vectors of each cell."""
    counts = np.bincount(indices, minlength=size).astype(z.dtype)
    sums = [np.bincount(indices, weights=column, minlength=size) for column in z.T]
    return counts, np.stack(sums, axis=-1).astype(z.dtype)


def gradients(x: np.ndarray, state: State, commitment: float, codebook_weight: float) -> State:
    """G_W and G_C of a batch, as derived above (exact also where WᵀW ≠ I)."""
    encoder, codebook = state
    n = x.shape[0]
    z = x @ encoder
    indices = nearest(z, codebook)
    q = codebook[indices]
    v = z - q @ (encoder.T @ encoder)
    rows = q + v - commitment * (z - q)
    counts, sums = cells(z, indices, codebook.shape[0])
    by_encoder = (encoder @ (q.T @ q) - x.T @ rows) * (2 / n)
    by_codebook = (counts[:, None] * codebook - sums) * (2 * codebook_weight / n)
    return State(by_encoder, by_codebook)


def polar(w: np.ndarray) -> np.ndarray:
    """W(WᵀW)^(−½): the nearest matrix with orthonormal columns."""
    values, vectors = np.linalg.eigh(w.T @ w)
    return w @ ((vectors / np.sqrt(values)) @ vectors.T)


def step(
    x: np.ndarray,
    state: State,
    lr_encoder: float,
    lr_codebook: float,
    commitment: float,
    codebook_weight: float,
) -> State:
    """The state after one batch."""
    gradient = gradients(x, state, commitment, codebook_weight)
    return State(
        polar(state.encoder - lr_encoder * gradient.encoder),
        state.codebook - lr_codebook * gradient.codebook,
    )

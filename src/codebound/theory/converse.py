"""A floor under every n-codeword code for the isotropic Gaussian, by linear programming.

For one nonnegative function tau of the radius and *any* codebook, pointwise in x,

    min_j |x - c_j|^2  >=  tau(|x|) - sum_j (tau(|x|) - |x - c_j|^2)_+ .

(If no codeword lies within tau the right side is tau, else it is at most the distance to the nearest.) Hence

    D  >=  E tau(|x|) - n * sup_c E (tau(|x|) - |x - c|^2)_+ ,                                        (*)

which is the dual of the linear program over the measure nu of codeword norms,

    min E_r int u(r, t) dt,   u >= 0,   u >= 1 - sum_rho nu(rho) Omega(r, rho, t),   sum nu = n,

Omega(r, rho, t) being the fraction of the sphere of radius r within squared distance t of a codeword of
norm rho. The program, solved on a grid, only *proposes* tau; `_certify` then bounds (*) from below for that
tau over all codewords, so no discretisation error is left in the published figure.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy
from jaxtyping import Float

from codebound.arguments import count, number
from codebound.errors import InputError

# Relative allowance, per evaluation, for rounding in the special functions (their own errors are near 1e-14).
_ROUNDING = 1e-12
# The same for the chi moments of a cell, which are differences: up to 1e-16 * (radius / width)^2.
_MOMENT_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Converse:
    """A certified lower bound on the mean squared error (summed over the vector), and its proof.

    `edges` (m + 1 radii) and `thresholds` (tau, constant between them, zero outside) are the certificate:
    `linear_program` = E tau - codebook_size * `multiplier`, with `multiplier` an upper bound on
    E (tau(|x|) - |x - c|^2)_+ for every codeword c. `codeword_norms` and `codeword_measure` (which sums to
    codebook_size) are the grid program's solution: how the norms of a good code would be spread.
    """

    dim: int
    codebook_size: int
    variance: float
    certified: float  # max(linear_program, shannon): the number to publish
    winner: Literal["linear program", "Shannon"]
    linear_program: float  # rigorous by itself; -inf where the program was not attempted (rate too high)
    shannon: float
    grid: float  # optimum of the discretised program: an estimate, NOT a bound; nan where not attempted
    edges: Float[np.ndarray, " edges"]
    thresholds: Float[np.ndarray, " cells"]
    multiplier: float
    codeword_norms: Float[np.ndarray, " norms"]
    codeword_measure: Float[np.ndarray, " norms"]


def converse(dim: int, codebook_size: int, variance: float | int = 1.0) -> Converse:
    """Lower bound on E min_j |x - c_j|^2 over all codebooks of that size, for x ~ N(0, variance I_dim).

    D >= max( E tau - n sup_c E (tau(|x|) - |x - c|^2)_+ ,  k variance 2^(-2 log2(n) / k) )

    with tau from the linear program in the module's docstring (derived there; the union bound over
    codewords is its only loss), and Shannon's bound (Shannon 1959). Units: squared error summed over the
    vector. Isotropic Gaussian only. Half a second at (8, 256), a few at worst; kept in memory per (dim,
    codebook_size). At rates above some 6 bits per dimension the program is not attempted and Shannon's
    bound stands alone. Raises `InputError` unless dim >= 1, codebook_size >= 1 and variance is positive and
    finite, and where the distortion is too small for a float64.
    """
    dim, n = count("dim", dim), count("codebook_size", codebook_size)
    variance = number("variance", variance, above=0.0)
    unit = _unit_converse(dim, n)
    if variance == 1.0:
        return unit
    deviation = math.sqrt(variance)
    return replace(
        unit,
        variance=variance,
        certified=unit.certified * variance,
        linear_program=unit.linear_program * variance,
        shannon=unit.shannon * variance,
        grid=unit.grid * variance,
        edges=_frozen(unit.edges * deviation),
        thresholds=_frozen(unit.thresholds * variance),
        multiplier=unit.multiplier * variance,
        codeword_norms=_frozen(unit.codeword_norms * deviation),
    )


@functools.lru_cache(maxsize=256)
def _unit_converse(dim: int, n: int) -> Converse:
    shannon = dim * 2.0 ** (-2.0 * math.log2(n) / dim)
    if shannon == 0:
        raise InputError(
            f"codebook_size is 2^{math.log2(n):.0f}; one whose distortion is a float64 above 0 is accepted"
        )
    low, high = _radius_range(dim, shannon)
    resolution = (high - low) / math.sqrt(shannon)  # how many typical cells fit in the range of radii
    none = _frozen(np.zeros(0))
    # Above this the grid cannot resolve a cell, and floats cannot hold 1/n: one codeword needs no program.
    if n == 1 or resolution > 320 or math.log2(n) > 900:
        return Converse(
            dim, n, 1.0, shannon, "Shannon", -math.inf, shannon, math.nan, none, none, math.inf, none, none
        )
    cells = int(np.clip(2 * resolution, 80, 200))
    edges = np.linspace(low, high, cells + 1)
    norms = np.linspace(0.0, high, cells)
    grid, proposal, measure = _solve_grid(dim, n, edges, norms, shannon)
    fine_edges = np.linspace(low, high, max(400, 4 * cells) + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    fine = np.interp((fine_edges[1:] + fine_edges[:-1]) / 2, middles, proposal)
    bound, multiplier = _certify(dim, n, fine_edges, fine)
    return Converse(
        dim=dim,
        codebook_size=n,
        variance=1.0,
        certified=max(bound, shannon),
        winner="linear program" if bound > shannon else "Shannon",
        linear_program=bound,
        shannon=shannon,
        grid=grid,
        edges=_frozen(fine_edges),
        thresholds=_frozen(fine),
        multiplier=multiplier,
        codeword_norms=_frozen(norms),
        codeword_measure=_frozen(measure),
    )


def _frozen(array: np.ndarray) -> np.ndarray:
    """The cache hands the same arrays to everyone: nobody may write to them."""
    array.flags.writeable = False
    return array


def _radius_range(dim: int, shannon: float) -> tuple[float, float]:
    """Radii carrying nearly all of the distortion; outside them tau = 0, which is always allowed."""
    tail = max(1e-15, 1e-6 * shannon / dim)
    high = math.sqrt(2 * scipy.special.gammainccinv(dim / 2, tail))
    low = math.sqrt(2 * scipy.special.gammaincinv(dim / 2, tail)) if dim > 1 else 0.0
    return low, high


def _caps(radius, norm, within, dim: int):
    """For x uniform on the sphere of `radius`, c of length `norm`: parts of P(|x - c|^2 <= within).

    Returns scale = 2 r rho, margin = t - r^2 - rho^2, cosine = -margin / scale (unclipped), and the fraction.
    """
    scale = 2.0 * radius * norm
    margin = within - radius**2 - norm**2
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(scale > 0, -margin / scale, np.where(margin >= 0, -2.0, 2.0))
    if dim == 1:  # two points
        return scale, margin, cosine, np.where(cosine <= -1, 1.0, np.where(cosine < 1, 0.5, 0.0))
    inside = np.clip(cosine, -1.0, 1.0)
    tail = 0.5 * scipy.special.betainc((dim - 1) / 2, 0.5, 1.0 - inside**2)
    return scale, margin, cosine, np.where(inside >= 0, tail, 1.0 - tail)


def _gain(radius, norm, within, dim: int):
    """E (t - |x - c|^2)_+ = int_0^t Omega, x uniform on a sphere, rounded up.

    With X the cosine of the angle, positive from X0 on, the mean of (margin + scale X)_+ is
    scale * (1 - X0^2)^((k-1)/2) / ((k-1) B(1/2, (k-1)/2)) + margin * Omega.
    """
    scale, margin, cosine, fraction = _caps(radius, norm, within, dim)
    inside = np.clip(cosine, -1.0, 1.0)
    if dim == 1:
        first = np.where(np.abs(cosine) < 1, 0.5, 0.0)
    else:
        log_norm = scipy.special.betaln(0.5, (dim - 1) / 2) + math.log(dim - 1)
        with np.errstate(divide="ignore"):
            first = np.exp((dim - 1) / 2 * np.log1p(-(inside**2)) - log_norm)
    partial = np.maximum(scale * first + margin * fraction, 0.0)
    value = np.where(cosine <= -1, np.maximum(margin, 0.0), np.where(cosine >= 1, 0.0, partial))
    return value + _ROUNDING * (scale + np.abs(margin)) * fraction


def _solve_grid(dim: int, n: int, edges, norms, shannon: float):
    """Optimum of the discretised program, the dual's tau at the middles of `edges`, and nu on `norms`.

    Radii and norms are points; over each cell in t the constraint is averaged exactly (a difference of
    `_gain`), so a coarse grid in t loses little. Each pass narrows that grid around the tau found before.
    """
    points = (edges[1:] + edges[:-1]) / 2
    mass = np.diff(scipy.special.gammainc(dim / 2, edges**2 / 2))
    # A codeword at the origin serves t > r^2; for few codewords, or near the origin, tau lies above that.
    highest = np.maximum(points**2, 6.0 * shannon)
    grid_t = np.geomspace(0.1 * shannon, highest, 24).T
    value, tau, measure = math.nan, highest, norms
    for spread in (2.0, 1.2, 1.1):
        value, tau, measure = _solve_program(dim, n, points, mass, norms, grid_t, shannon)
        middle = np.clip(tau, 0.05 * shannon, highest)
        grid_t = np.geomspace(middle / spread, middle * spread, 24).T
    return value, tau, measure


def _solve_program(dim: int, n: int, points, mass, norms, grid_t, unit: float):
    """One linear program; `unit` is the scale of distortion in which it is posed."""
    steps = np.concatenate([np.zeros((len(points), 1)), grid_t], axis=1)
    gains = _gain(points[:, None, None], norms[None, None, :], steps[:, :, None], dim)
    widths = np.diff(steps, axis=1).ravel() / unit
    covered = n * np.diff(gains, axis=1).reshape(len(widths), len(norms)) / unit
    # A proposal may be rough: keep the program sparse, and its coefficients in the solver's range for huge n.
    covered[covered < 1e-9 * widths[:, None]] = 0.0
    covered = np.minimum(covered, 1e7 * widths[:, None])
    # Variables: int u dt over each cell, then nu / n.
    rows, columns = covered.shape
    solution = scipy.optimize.linprog(
        np.concatenate([np.repeat(mass, grid_t.shape[1]), np.zeros(columns)]),
        A_ub=scipy.sparse.hstack([-scipy.sparse.identity(rows), scipy.sparse.csr_matrix(-covered)]).tocsr(),
        b_ub=-widths,
        A_eq=scipy.sparse.csr_matrix(np.concatenate([np.zeros(rows), np.ones(columns)])[None]),
        b_eq=[1.0],
        method="highs",
    )
    if not solution.success:  # a zero tau certifies zero, and Shannon's bound takes over
        return math.nan, np.zeros(len(points)), np.full(columns, n / columns)
    weights = -solution.ineqlin.marginals * widths
    tau = unit * weights.reshape(grid_t.shape).sum(axis=1) / mass
    return unit * float(solution.fun), np.maximum(tau, 0.0), n * solution.x[rows:]


def _certify(dim: int, n: int, edges, tau) -> tuple[float, float]:
    """Lower bound on E tau - n sup_c G(|c|), G(rho) = E (tau(|x|) - |x - c|^2)_+, and the bound on sup G.

    Along a ray in x, and along one in c, (tau - |x - c|^2)_+ has second derivative -2 inside the ball, 0
    outside and a positive jump of slope between. So over a ray's interval [a, b] its mean over directions
    lies below its chord plus (s - a)(b - s) * (largest probability, on the interval, of being inside). A
    point or codeword moved by d is still inside a ball enlarged by d: probabilities at the middle of a cell
    in r, and at the nearer end of one in rho, with sqrt(tau) enlarged by half of both widths, bound that
    factor. Per cell in r the chord is integrated by exact moments of the chi density; per cell in rho the
    excess is at most width^2 / 4 times it. Beyond the last norm G = 0, since tau = 0 beyond the last edge.
    """
    left, right = edges[:-1], edges[1:]
    width = edges[1] - edges[0]
    mass, first = _moments(dim, edges)
    weight_left = np.maximum(right * mass - first, 0.0) / width
    weight_right = np.maximum(first - left * mass, 0.0) / width
    excess = mass * width**2 / 4
    reach = np.sqrt(tau)
    norms = np.linspace(0.0, edges[-1] + reach.max(), max(600, len(tau)))
    step = norms[1]
    met_within = np.where(tau > 0, (reach + (width + step) / 2) ** 2, 0.0)
    met = _caps((left + right)[:, None] / 2, norms, met_within[:, None], dim)[3]
    gain = (
        weight_left @ _gain(left[:, None], norms, tau[:, None], dim)
        + weight_right @ _gain(right[:, None], norms, tau[:, None], dim)
        + excess @ met
    )
    ball = mass @ met
    highest = np.maximum(gain[1:], gain[:-1]) + step**2 / 4 * np.maximum(ball[1:], ball[:-1])
    multiplier = float(highest.max()) * (1 + _MOMENT_ROUNDING)
    return float(mass @ tau) * (1 - _ROUNDING) - n * multiplier, multiplier


def _moments(dim: int, edges):
    """Integrals of 1 and r against the chi density over each cell."""

    def between(degrees):  # differences of whichever tail is small, so that both ends keep their digits
        lower = scipy.special.gammainc(degrees / 2, edges**2 / 2)
        upper = scipy.special.gammaincc(degrees / 2, edges**2 / 2)
        return np.where(lower[1:] < 0.5, np.diff(lower), -np.diff(upper))

    mean = math.sqrt(2) * math.exp(scipy.special.gammaln((dim + 1) / 2) - scipy.special.gammaln(dim / 2))
    return between(dim), mean * between(dim + 1)

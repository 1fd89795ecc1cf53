"""Problems whose specialness is known exactly, to hold estimators against: `CASES[name](…)` gives a `Case`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from scipy import special, stats
from torch import Tensor

from reuse_sim.errors import InputError
from reuse_sim.specialness.problem import LN2, Problem
from reuse_sim.specialness.reference import CountingMeasure, UniformBox, standard_normal


@dataclass(frozen=True)
class Case:
    """A problem and its specialness in bits."""

    problem: Problem
    bits: float


def ball(d: int, radius2: float, centre: float = 0.0) -> Case:
    """½|θ − c|² ≤ radius2 under N(0, I), |c| = `centre`: the (noncentral) χ² distribution at 2 radius2."""
    shift = torch.zeros(d, dtype=torch.float64)
    shift[0] = centre

    def cost(theta: Tensor) -> Tensor:
        return (theta - shift).square().sum(-1) / 2

    log_p = _log_chi2(d, 2 * radius2) if centre == 0 else float(stats.ncx2.logcdf(2 * radius2, d, centre**2))
    return Case(Problem(d, standard_normal(d), cost, radius2, "½|θ - c|²"), -log_p / LN2)


def half_space(d: int, a: float) -> Case:
    """θ₁ ≥ a under N(0, I): the normal tail Φ(−a)."""
    def cost(theta: Tensor) -> Tensor:
        return a - theta[..., 0]

    return Case(Problem(d, standard_normal(d), cost, 0.0, "a - θ₁"), -float(special.log_ndtr(-a)) / LN2)


def slab(d: int, k: int, width: float) -> Case:
    """max over the first k of |θ_i| ≤ width under N(0, I): (2Φ(width) − 1)^k."""
    def cost(theta: Tensor) -> Tensor:
        return theta[..., :k].abs().amax(-1)

    bits = -k * math.log2(special.erf(width / math.sqrt(2)))
    return Case(Problem(d, standard_normal(d), cost, width, "max |θ_i|"), bits)


def cap(d: int, tolerance: float) -> Case:
    """Linear humans sign(θ·x) that disagree with a linear teacher on a share ≤ tolerance < ½ of isotropic questions.

    C is the angle between the two over π, so {C ≤ τ} is a spherical cap: ½ I_{sin²πτ}((d−1)/2, ½) (Li 2011).
    """
    if not 0 < tolerance <= 0.5:
        raise InputError("cap: tolerance", tolerance, "a share above 0, up to one half")

    def cost(theta: Tensor) -> Tensor:
        cosine = theta[..., 0] / theta.norm(dim=-1).clamp(min=1e-300)
        return torch.acos(cosine.clamp(-1 + 1e-15, 1 - 1e-15)) / math.pi

    share = special.betainc((d - 1) / 2, 0.5, math.sin(math.pi * tolerance) ** 2) / 2
    if share < 1e-290:  # the leading term of the incomplete beta, exact to its relative error of about 1/d
        raise InputError("cap", f"d = {d}, tolerance = {tolerance}", "a share that a double can hold", "take fewer d")
    return Case(Problem(d, standard_normal(d), cost, tolerance, "angle over π"), -math.log2(share))


def dirichlet(powers: tuple[float, ...], epsilon: float) -> Case:
    """½ Σ|θ_i|^{p_i} ≤ epsilon ≤ ½, uniform on [−1, 1]^d: ΠΓ(1 + 1/p_i) / Γ(1 + Σ1/p_i) · (2ε)^{Σ1/p_i}."""
    if not 0 < epsilon <= 0.5:
        raise InputError("dirichlet: epsilon", epsilon, "above 0, up to one half")
    p = torch.tensor(powers, dtype=torch.float64)
    inverse = 1 / p
    corner = torch.lgamma(1 + inverse).sum() - torch.lgamma(1 + inverse.sum())
    log_p = float(corner + inverse.sum() * math.log(2 * epsilon))

    def cost(theta: Tensor) -> Tensor:
        return (theta.abs() ** p).sum(-1) / 2

    one = torch.ones(len(p), dtype=torch.float64)
    return Case(Problem(len(p), UniformBox(-one, one), cost, epsilon, "½ Σ|θ_i|^p_i"), -log_p / LN2)


def product(t: float) -> Case:
    """|θ₁θ₂| ≤ t, uniform on [−1, 1]²: t (1 − ln t), a singular set of multiplicity two."""
    def cost(theta: Tensor) -> Tensor:
        return (theta[..., 0] * theta[..., 1]).abs()

    one = torch.ones(2, dtype=torch.float64)
    return Case(Problem(2, UniformBox(-one, one), cost, t, "|θ₁θ₂|"), -math.log2(t * (1 - math.log(t))))


def orthant(k: int) -> Case:
    """All of k equicorrelated normals (ρ = ½) above 0: 1/(k + 1). θ has k + 1 dimensions, x_i = (θ_0 + θ_i)/√2."""
    def cost(theta: Tensor) -> Tensor:
        return -(theta[..., :1] + theta[..., 1:]).amin(-1)

    return Case(Problem(k + 1, standard_normal(k + 1), cost, 0.0, "-min(θ₀ + θ_i)"), math.log2(k + 1))


def evidence(spectrum: tuple[float, ...], shift: float = 0.0, strength: float = 1.0) -> Case:
    """Soft: C = ½ Σ h_i (θ_i − shift)² under N(0, I), ∫ = Π (1 + s h_i)^(−½) exp(−½ s h_i shift²/(1 + s h_i))."""
    h = torch.tensor(spectrum, dtype=torch.float64)

    def cost(theta: Tensor) -> Tensor:
        return (h * (theta - shift).square()).sum(-1) / 2

    nats = float((1 + strength * h).log().sum() / 2 + (strength * h * shift**2 / (1 + strength * h)).sum() / 2)
    problem = Problem(len(h), standard_normal(len(h)), cost, 1.0, "½ Σ h_i (θ_i - c)²", strength=strength)
    return Case(problem, nats / LN2)


def two_basins(d: int, distance: float, width: float, narrow: float) -> Case:
    """Two balls about ±distance on the first axis, the second `narrow` times as wide: a search that finds one is wrong.

    min over both of |θ − c|²/(2 r²) ≤ 1 under N(0, I), the two disjoint.
    """
    first, second = (math.sqrt(2) * width, math.sqrt(2) * width * narrow)
    if first + second >= 2 * distance:
        raise InputError("two_basins", f"radii {first:.2f} and {second:.2f}", f"a sum below {2 * distance}")

    def cost(theta: Tensor) -> Tensor:
        rest = theta[..., 1:].square().sum(-1)
        one = ((theta[..., 0] - distance).square() + rest) / (2 * width**2)
        other = ((theta[..., 0] + distance).square() + rest) / (2 * (width * narrow) ** 2)
        return torch.minimum(one, other)

    p = sum(float(stats.ncx2.cdf(r**2, d, distance**2)) for r in (first, second))
    return Case(Problem(d, standard_normal(d), cost, 1.0, "|θ - c|²/2r² of the nearer of two"), -math.log2(p))


def binary(m: int, tolerance: float) -> Case:
    """Answers to m yes-or-no questions, a share ≤ tolerance of them wrong, all alike: Pr[Bin(m, ½) ≤ τm].

    About m (1 − h(τ)) bits, the rate–distortion function of a fair coin. C is the number wrong: ties everywhere.
    """
    if not 0 <= tolerance <= 1:
        raise InputError("binary: tolerance", tolerance, "a share from 0 to 1")
    most = math.floor(tolerance * m + 1e-9)  # .1 · 30 is 3, whatever a double says

    def cost(theta: Tensor) -> Tensor:
        return theta.sum(-1)

    ways = sum(math.comb(m, k) for k in range(most + 1))  # whole numbers: exact at any m
    problem = Problem(m, CountingMeasure(m), cost, float(most), f"wrong of {m}", smooth=False)
    return Case(problem, m - math.log2(ways))


def _log_chi2(d: int, x: float) -> float:
    """log of the χ² distribution function, by its series where it is too small for a double."""
    p = special.gammainc(d / 2, x / 2)
    if p > 1e-280:
        return math.log(p)
    a, z, term, total = d / 2, x / 2, 1.0, 1.0
    for k in range(1, 100_000):  # γ(a, z) = z^a e^(−z) Σ z^k / (a (a+1) … (a+k))
        term *= z / (a + k)
        total += term
        if term < 1e-16 * total:
            break
    return a * math.log(z) - z + math.log(total) - math.lgamma(a + 1)


CASES: Mapping[str, Callable[..., Case]] = {
    f.__name__: f
    for f in (ball, half_space, slab, cap, dirichlet, product, orthant, evidence, two_basins, binary)
}

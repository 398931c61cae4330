"""The log density of every family in mpmath, and the edges of its parameters and values.

``FAMILIES`` has one row for each public family. To add a family, add a row: its log density in mpmath as a function of
(value, parameters in the order of the constructor), and its edges, each (value, parameters). All numbers must be
float32's, so that both precisions are asked the same question.

A derivative is not asked for where there is none: of an integer (``still`` lists these arguments, 0 is the value), or
where the density jumps at the edge.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath as mp

INF = float("inf")


class Exact(NamedTuple):
    """A family's density in mpmath; ``edges``: (value, parameters); ``still``: arguments without a derivative."""

    density: Callable[..., Any]
    edges: list[tuple[float, tuple[float, ...]]]
    still: tuple[int, ...] = ()


def xlogy(x: Any, y: Any) -> Any:
    return mp.mpf(0) if x == 0 else x * mp.log(y)


def xlog1py(x: Any, y: Any) -> Any:
    return mp.mpf(0) if x == 0 else x * mp.log1p(y)


def _choose(n: Any, k: Any) -> Any:
    return mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)


def _normal(x: Any, loc: Any, scale: Any) -> Any:
    return -(((x - loc) / scale) ** 2) / 2 - mp.log(2 * mp.pi) / 2 - mp.log(scale)


def _tail(z: Any) -> Any:
    return mp.erfc(z / mp.sqrt(2)) / 2 if z != mp.inf else mp.mpf(0)


def _truncated(x: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    a, b = ((bound - loc) / scale for bound in (low, high))
    mass = _tail(-b) - _tail(-a) if b < 0 else _tail(a) - _tail(b)
    return _normal(x, loc, scale) - mp.log(mass)


def _negative_binomial(k: Any, m: Any, r: Any) -> Any:
    return mp.loggamma(k + r) - mp.loggamma(r) - mp.loggamma(k + 1) + xlogy(k, m / (m + r)) - r * mp.log1p(m / r)


def _beta_binomial(k: Any, a: Any, b: Any, n: Any) -> Any:
    def log_beta(x: Any, y: Any) -> Any:
        return mp.loggamma(x) + mp.loggamma(y) - mp.loggamma(x + y)

    return _choose(n, k) + log_beta(k + a, n - k + b) - log_beta(a, b)


def _student_t(x: Any, df: Any, loc: Any, scale: Any) -> Any:
    norm = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(mp.pi * df) / 2 - mp.log(scale)
    return norm - (df + 1) / 2 * mp.log1p(((x - loc) / scale) ** 2 / df)


def _cauchy(x: Any, loc: Any, scale: Any) -> Any:
    return -mp.log(mp.pi * scale) - mp.log1p(((x - loc) / scale) ** 2)


def _weibull(x: Any, scale: Any, shape: Any) -> Any:
    return mp.log(shape) - mp.log(scale) + xlogy(shape - 1, x / scale) - (x / scale) ** shape


def _gumbel(x: Any, loc: Any, scale: Any) -> Any:
    return -(x - loc) / scale - mp.exp(-(x - loc) / scale) - mp.log(scale)


def _logistic(x: Any, loc: Any, scale: Any) -> Any:
    z = abs(x - loc) / scale
    return -z - 2 * mp.log1p(mp.exp(-z)) - mp.log(scale)


def _zero_inflated(k: Any, gate: Any, rate: Any) -> Any:
    some = mp.exp(xlogy(k, rate) - rate - mp.loggamma(k + 1)) * (1 - gate)
    return mp.log(some + (gate if k == 0 else 0))


def _inverse_gamma(x: Any, a: Any, rate: Any) -> Any:
    return a * mp.log(rate) - mp.loggamma(a) - (a + 1) * mp.log(x) - rate / x


def _von_mises(x: Any, loc: Any, k: Any) -> Any:
    if k < 1000:
        norm = mp.log(2 * mp.pi * mp.besseli(0, k)) - k
    else:
        norm = mp.log(mp.hyp2f0(0.5, 0.5, 1 / (2 * k))) - mp.log(2 * mp.pi * k) / 2 + mp.log(2 * mp.pi)
    return k * (mp.cos(x - loc) - 1) - norm


F32 = 2.0**-24  # half a step of float32 below 1 is lost; a whole one, 2 * F32, is not
FAMILIES: dict[str, Exact] = {
    "Bernoulli": Exact(
        lambda k, p: mp.log(p) if k == 1 else mp.log1p(-p),
        [(1, (1.0,)), (0, (0.0,)), (1, (2.0**-100,)), (0, (1.0 - F32,)), (0, (2.0**-100,)), (1, (0.25,))],
        (0,),
    ),
    "Beta": Exact(
        lambda x, a, b: xlogy(a - 1, x) + xlog1py(b - 1, -x) + mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b),
        [(0.5, (1.0, 1.0)), (2.0**-60, (0.5, 2.0)), (1.0 - F32, (2.0, 0.5)), (0.25, (2.0**-10, 2.0**-10)),
         (0.25, (300.0, 900.0)), (2.0**-100, (1.0, 5.0)), (0.0, (1.0, 3.0)), (1.0, (3.0, 1.0))],
    ),
    "BetaBinomial": Exact(
        _beta_binomial, [(0, (0.5, 2.0, 10.0)), (10, (0.5, 2.0, 10.0)), (0, (1.0, 1.0, 0.0)), (7, (0.125, 0.125, 9.0)),
                         (50, (4096.0, 4096.0, 100.0))], (0, 3),
    ),
    "Binomial": Exact(
        lambda k, n, p: _choose(n, k) + xlogy(k, p) + xlog1py(n - k, -p),
        [(0, (10.0, 0.0)), (10, (10.0, 1.0)), (0, (0.0, 0.5)), (7, (20.0, 0.25)), (1, (10.0, 2.0**-100)),
         (9, (10.0, 1.0 - F32)), (2**20, (2.0**22, 0.25)), (3, (2.0**24, 2.0**-23)), (0, (0.0, 1.0)),
         (0, (2.0**22, 2.0**-30))],
        (0, 1),
    ),
    "Categorical": Exact(lambda k, p: mp.log(p), [], (0,)),  # see test_vectors_at_their_edges
    "Cauchy": Exact(_cauchy, [(0.0, (0.0, 1.0)), (2.0**100, (0.0, 1.0)), (1.0, (-1.0, 2.0**-20))]),
    "Delta": Exact(lambda x, v: mp.mpf(0), [(3.0, (3.0,))], (0, 1)),
    "Dirichlet": Exact(lambda *_: mp.mpf(0), []),  # see test_vectors_at_their_edges
    "Exponential": Exact(
        lambda x, rate: mp.log(rate) - rate * x,
        [(0.0, (2.0,)), (2.0**-120, (1.0,)), (2.0**20, (2.0**-20,)), (2.0**60, (1.0,))],
    ),
    "Factor": Exact(lambda _, f: f, [(0.0, (-3.0,))], (0,)),
    "Gamma": Exact(
        lambda x, a, rate: a * mp.log(rate) + xlogy(a - 1, x) - rate * x - mp.loggamma(a),
        [(0.0, (1.0, 2.0)), (2.0**-100, (0.5, 1.0)), (2.0**60, (2.0, 1.0)), (1024.0, (1024.0, 1.0)),
         (1.0, (2.0**-10, 1.0)), (1000.0, (2.0**20, 1024.0)), (2.0**-100, (20.0, 1.0))],
    ),
    "Geometric": Exact(
        lambda k, p: mp.log(p) + xlog1py(k, -p), [(0, (1.0,)), (5, (0.25,)), (0, (2.0**-60,)), (9, (2.0**-30,))], (0,)
    ),
    "Gumbel": Exact(_gumbel, [(0.0, (0.0, 1.0)), (-4.0, (0.0, 1.0)), (2.0**30, (0.0, 1.0)), (1.0, (0.0, 2.0**-20))]),
    "HalfCauchy": Exact(
        lambda x, scale: mp.log(2) + _cauchy(x, mp.mpf(0), scale),
        [(0.0, (1.0,)), (2.0**100, (1.0,)), (1.0, (2.0**-60,))],
    ),
    "HalfNormal": Exact(
        lambda x, scale: mp.log(2) + _normal(x, mp.mpf(0), scale), [(0.0, (1.0,)), (2.0**-100, (1.0,)), (32.0, (1.0,))]
    ),
    "Hypergeometric": Exact(
        lambda k, n, good, draws: _choose(good, k) + _choose(n - good, draws - k) - _choose(n, draws),
        [(2, (10.0, 4.0, 5.0)), (0, (10.0, 0.0, 5.0)), (5, (10.0, 10.0, 5.0)), (0, (10.0, 4.0, 0.0))],
        (0, 1, 2, 3),
    ),
    "InverseGamma": Exact(
        _inverse_gamma, [(1.0, (2.0, 1.0)), (2.0**-5, (2.0, 1.0)), (2.0**60, (0.5, 1.0)), (1.0, (2.0**-10, 1.0))]
    ),
    "Laplace": Exact(
        lambda x, loc, scale: -abs(x - loc) / scale - mp.log(2 * scale),
        [(1.0, (0.0, 1.0)), (-1.0, (0.0, 2.0**-20)), (2.0**60, (0.0, 1.0))],
    ),
    "LogNormal": Exact(
        lambda x, loc, scale: _normal(mp.log(x), loc, scale) - mp.log(x),
        [(2.0**-120, (0.0, 1.0)), (2.0**120, (0.0, 1.0)), (1.0, (0.0, 2.0**-20)), (1.0, (0.0, 2.0**20))],
    ),
    "Logistic": Exact(
        _logistic, [(0.5, (0.0, 1.0)), (200.0, (0.0, 1.0)), (-2.0**40, (0.0, 1.0)), (1.0, (0.0, 2.0**-20))]
    ),
    "Mixture": Exact(lambda *_: mp.mpf(0), []),  # see test_mixtures_at_their_edges
    "Multinomial": Exact(lambda *_: mp.mpf(0), []),  # see test_vectors_at_their_edges
    "MultivariateNormal": Exact(lambda *_: mp.mpf(0), []),  # see test_vectors_at_their_edges
    "NegativeBinomial": Exact(
        lambda k, r, p: mp.loggamma(k + r) - mp.loggamma(r) - mp.loggamma(k + 1) + xlogy(k, p) + r * mp.log1p(-p),
        [(0, (2.0, 0.0)), (3, (2.0, 0.5)), (0, (2.0, 1.0 - 2.0**-20)), (4, (2.0**-6, 0.5))],
        (0,),
    ),
    "NegativeBinomial2": Exact(
        _negative_binomial, [(0, (0.0, 1.0)), (5, (4.0, 0.5)), (0, (2.0**20, 0.5)), (100, (128.0, 2.0**20))], (0,)
    ),
    "Normal": Exact(
        _normal, [(0.0, (0.0, 1.0)), (40.0, (0.0, 1.0)), (2.0**50, (0.0, 2.0**20)), (1.0, (1.0, 2.0**-60))]
    ),
    "Pareto": Exact(
        lambda x, scale, a: mp.log(a) + a * mp.log(scale) - (a + 1) * mp.log(x),
        [(2.0, (1.0, 3.0)), (2.0**100, (1.0, 0.5)), (1.0, (2.0**-30, 1.0))],
    ),
    "Poisson": Exact(
        lambda k, rate: xlogy(k, rate) - rate - mp.loggamma(k + 1),
        [(0, (0.0,)), (0, (2.0**-100,)), (1, (2.0**-100,)), (3, (4.0,)), (0, (2.0**20,)), (2**20 + 512, (2.0**20,)),
         (2**23, (2.0**23 - 100.0,))],
        (0,),
    ),
    "StudentT": Exact(
        _student_t,
        [(0.0, (3.0, 0.0, 1.0)), (2.0**100, (1.0, 0.0, 1.0)), (2.0, (2.0**20, 0.0, 1.0)), (1.0, (0.5, 0.0, 0.5))],
    ),
    "TruncatedNormal": Exact(
        _truncated,
        [(0.5, (0.0, 1.0, 0.0, 1.0)), (501.0, (0.0, 1.0, 500.0, INF)), (-40.125, (0.0, 1.0, -41.0, -40.0)),
         (0.5, (0.0, 1.0, -INF, INF)), (0.5, (0.0, 1.0, 0.5, INF)), (1.0, (8.0, 0.125, 0.0, 1.0)),
         (8.25, (0.0, 1.0, 8.0, 8.5)), (-20.5, (0.0, 1.0, -INF, -20.0)), (0.0, (0.0, 1.0, -0.0625, 0.0625)),
         (0.25, (0.0, 1.0, -30.0, 0.5)), (-0.75, (0.0, 1.0, -1.0, 0.25)), (12.5, (0.0, 1.0, 12.0, 14.0))],
    ),
    "Uniform": Exact(
        lambda x, low, high: -mp.log(high - low),
        [(0.0, (0.0, 1.0)), (1.0, (0.0, 1.0)), (0.5, (-(2.0**60), 2.0**60)), (1.0, (1.0, 1.0 + 2.0**-20))],
    ),
    "VonMises": Exact(
        _von_mises, [(0.5, (0.0, 1.0)), (0.5, (0.5, 2.0**20)), (0.5 + 2.0**-12, (0.5, 2.0**20)), (-3.0, (3.0, 0.25)),
                     (1.0, (1.0, 2.0**-40)), (0.25, (0.0, 49.0)), (0.25, (0.0, 51.0))],
    ),
    "Weibull": Exact(
        _weibull,
        [(0.0, (2.0, 1.0)), (2.0**-100, (1.0, 0.5)), (1.25, (1.0, 64.0)), (1.0, (1.0, 2.0**-10)), (20.0, (1.0, 1.0))],
    ),
    "ZeroInflatedPoisson": Exact(
        _zero_inflated, [(0, (0.0, 2.0)), (3, (0.5, 2.0)), (0, (0.5, 0.0)), (0, (0.25, 2.0**10)), (2, (0.0, 4.0))], (0,)
    ),
}  # fmt: skip

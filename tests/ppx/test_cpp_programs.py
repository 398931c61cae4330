"""Simulators in C++ beside the same programs in Python: the same seed gives the same traces, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import programs
import pytest
from cpp_front_end import Statement, built, connected, has_target, local_prior

import ppl_jax as ppl
import ppl_jax.distributions as dist
import ppx
from ppl_jax.language.site import TAG
from ppx.constants import SiteKind


def rejection() -> Any:
    while (x := ppl.sample(dist.Normal(0.0, 1.0), name="x")) <= 0.0:
        pass
    ppl.observe(dist.Normal(x, 0.5), name="y")
    return x


def thousand() -> Any:
    total = 0.0
    for _ in range(1000):
        total += ppl.sample(dist.Normal(0.0, 1.0))
    ppl.observe(dist.Normal(total, 1.0), name="y")
    return total


def distributions() -> None:
    two = dist.Mixture([0.4, 0.6], [dist.Normal(0.0, 1.0), dist.Gamma(2.0, 1.0)])
    for name, distribution in {
        "normal": dist.Normal(1.75, 0.5),
        "uniform": dist.Uniform(1.2, 2.5),
        "categorical": dist.Categorical([0.1, 0.5, 0.4]),
        "poisson": dist.Poisson(4.0),
        "bernoulli": dist.Bernoulli(0.2),
        "beta": dist.Beta(1.2, 2.5),
        "exponential": dist.Exponential(2.2),
        "gamma": dist.Gamma(0.5, 1.2),
        "log_normal": dist.LogNormal(0.5, 0.2),
        "binomial": dist.Binomial(10, 0.72),
        "weibull": dist.Weibull(1.1, 0.6),
        "truncated_normal": dist.TruncatedNormal(0.0, 1.0, -0.5, 2.0),
        "von_mises": dist.VonMises(0.5, 2.0),
        "mixture": two,
        "mixture_of_mixtures": dist.Mixture([0.5, 0.5], [two, dist.Normal(9.0, 1.0)]),
        "mixture_of_counts": dist.Mixture([0.5, 0.5], [dist.Poisson(3.0), dist.Categorical([0.5, 0.5])]),
        "multivariate_normal": dist.MultivariateNormal([1.0, -1.0], [[1.0, 0.0], [0.5, 2.0]]),
        "delta": dist.Delta(3.5),
        "negative_binomial": dist.NegativeBinomial(3.0, 0.4),
        "negative_binomial_2": dist.NegativeBinomial2(4.0, 0.5),
        "beta_binomial": dist.BetaBinomial(2.0, 3.0, 10.0),
        "geometric": dist.Geometric(0.25),
        "hypergeometric": dist.Hypergeometric(20.0, 8.0, 6.0),
        "zero_inflated_poisson": dist.ZeroInflatedPoisson(0.25, 3.0),
        "student_t": dist.StudentT(3.0, 1.0, 2.0),
        "cauchy": dist.Cauchy(1.0, 2.0),
        "half_cauchy": dist.HalfCauchy(2.0),
        "half_normal": dist.HalfNormal(2.0),
        "laplace": dist.Laplace(1.0, 2.0),
        "logistic": dist.Logistic(1.0, 2.0),
        "gumbel": dist.Gumbel(1.0, 2.0),
        "inverse_gamma": dist.InverseGamma(3.0, 2.0),
        "pareto": dist.Pareto(1.0, 2.5),
        "normals": dist.Normal([[0.0], [1.0], [2.0]], [0.1, 0.2]),
        "binomials": dist.Binomial(5, [0.1, 0.9]),
        "categoricals": dist.Categorical([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]]),
        "student_ts": dist.StudentT([2.0, 5.0], 1.0, [[1.0], [2.0]]),
        "truncated_normals": dist.TruncatedNormal([0.0, 1.0], 1.0, 0.0, [2.0, 3.0]),
    }.items():
        ppl.sample(distribution, name=name)


EXAMPLES = {
    "gum": programs.gum,
    "gum_marsaglia": programs.gum_marsaglia,
    "hidden_markov": programs.hidden_markov,
    "branching": programs.branching,
}
PROGRAMS = {
    "recursion": programs.recursion,
    "sprinkler": programs.sprinkler,
    "thousand": thousand,
    "distributions": distributions,
}


def expected(trace: ppl.Trace) -> list[tuple]:
    """What a trace made in Python says of its statements."""
    found = []
    for site in trace.sites:
        value = tuple(np.asarray(site.value, dtype=float).ravel().tolist())
        if site.kind == TAG:
            found.append((site.name, None, value, ()))
        else:
            numbers = tuple(float(number) for number in site.distribution.numbers())
            found.append((site.name or "", site.distribution.layout(), value, numbers))
    return found


def said(execution: list[Statement]) -> list[tuple]:
    """The same of an execution of a front end, the result left out."""
    return [
        (statement.name, statement.site.layout, statement.value, statement.parameters)
        for statement in execution
        if statement.site.kind != SiteKind.RESULT
    ]


def traces(connection: ppx.Connection, count: int) -> list[list[Statement]]:
    executions, errors = local_prior(connection, count, seed=3)
    assert not errors
    assert len(executions) == count
    return executions


@pytest.mark.parametrize("name", [*EXAMPLES, *PROGRAMS])
def test_same_traces_as_in_python(name, tmp_path):
    count = 20 if name == "thousand" else 300
    model = {**EXAMPLES, **PROGRAMS}[name]
    program = (name,) if name in EXAMPLES else ("programs", name)
    with connected(program[0], tmp_path, *program[1:]) as connection:
        executions = traces(connection, count)
    prior = ppl.prior(model, count, seed=3, backend="host", progress=False)
    for execution, trace in zip(executions, prior, strict=True):
        assert said(execution) == expected(trace)
        result = () if trace.result is None else tuple(np.asarray(trace.result, dtype=float).ravel().tolist())
        assert execution[-1].value == result


def test_of_a_rejection_scope_the_accepted_pass_is_sent(tmp_path):
    with connected("programs", tmp_path, "rejection") as connection:
        executions = traces(connection, 300)
    prior = ppl.prior(rejection, 300, seed=3, backend="host", progress=False)
    rejections = 0
    for execution, trace in zip(executions, prior, strict=True):
        begin, x, end, y, result = execution
        assert [begin.site.kind, end.site.kind] == [SiteKind.SCOPE_BEGIN, SiteKind.SCOPE_END]
        assert (x.name, x.value, y.value, result.value) == ("x", (trace["x"],), (trace["y"],), (trace.result,))
        # In Python the loop has no scope, and every pass stays in the trace.
        rejections += int(end.value[0])
        assert end.value == (len([site for site in trace.sites if site.name == "x"]) - 1,)
    assert rejections > 100


def test_hijacked_generator(tmp_path):
    """A simulator that knows nothing of inference: each of its draws is a latent variable at a place of its own."""
    with connected("hijacked", tmp_path) as connection:
        executions = traces(connection, 100)
    lengths = {len(execution) for execution in executions}
    assert len(lengths) > 10
    draws = {statement.site.address for execution in executions for statement in execution if not statement.name}
    assert len(draws) == 3  # two in the walk, and the result, which has no address
    for execution in executions:
        energy, depth, result = execution[0], execution[-2], execution[-1]
        assert (energy.name, depth.name) == ("energy", "depth")
        assert depth.parameters == ((len(execution) - 3) / 2 + 0.5,)
        assert result.value == energy.value


def test_simulator_in_fortran(tmp_path):
    if not has_target("gum_fortran"):
        pytest.skip("no Fortran compiler (Debian: gfortran)")
    with connected("gum_fortran", tmp_path) as connection:
        assert connection.peer.model_name == "gum (Fortran)"
        executions = traces(connection, 100)
    assert {site.address for (*sites, _) in executions for site, _, _ in sites} == {"gum:mu", "gum:obs0", "gum:obs1"}
    prior = ppl.prior(programs.gum, 100, seed=3, backend="host", progress=False)
    assert [said(execution) for execution in executions] == [expected(trace) for trace in prior]


def test_fortran_says_why_it_cannot_serve():
    if not has_target("gum_fortran"):
        pytest.skip("no Fortran compiler (Debian: gfortran)")
    import subprocess

    done = subprocess.run(
        [str(built("gum_fortran")), "nonsense://endpoint"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "nonsense://endpoint" in done.stderr

"""One host execution of a model under an engine: the outermost messenger, and the errors that name where it broke."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ppl_jax.addresses import error_site
from ppl_jax.errors import ModelError, ObservationError, ParameterError, PPLError, describe_site
from ppl_jax.primitives import (
    FACTOR,
    TAG,
    Site,
    ambient_messengers,
    check_value,
    run_under,
    total_log_prob,
)
from ppl_jax.streams import Stream
from ppl_jax.traces import Trace

NO_DATA: Mapping[str, Any] = {}


class Execution:
    """Numbers instances, supplies data and draws, records sites, and sums the importance weight.

    Args:
      rng: stream of this execution.
      observations: data by name; they win over values given in the model.
      score: False for a prior run: observes without data are drawn and nothing is weighed.
      likelihood_importance: exponent of the likelihood in the weight (tempering).
    """

    __slots__ = ("counts", "likelihood_importance", "log_weight", "observations", "rng", "score", "sites")

    def __init__(
        self,
        rng: Stream,
        observations: Mapping[str, Any] = NO_DATA,
        score: bool = False,
        likelihood_importance: float = 1.0,
    ):
        self.rng = rng
        self.observations = observations
        self.score = score
        self.likelihood_importance = likelihood_importance
        self.sites: list[Site] = []
        self.counts: dict[str, int] = {}
        self.log_weight = 0.0

    def process(self, site: Site) -> None:
        address = site.address
        counts = self.counts
        site.instance = counts[address] = counts.get(address, 0) + 1
        self.sites.append(site)
        kind = site.kind
        if kind is TAG:
            return
        if kind is FACTOR:
            if self.score:
                self.log_weight += self.likelihood_importance * site.log_prob
            return
        if site.name is not None and site.name in self.observations:
            site.value = check_value(site, self.observations[site.name])
            site.observed = True
        if site.observed:
            self.settle_observed(site)
        elif site.value is None:
            self.settle_latent(site)
        else:
            self.settle_fixed(site)

    def settle_observed(self, site: Site) -> None:
        """Weighs an observed value; in a prior run without data draws one."""
        if self.score:
            if site.value is None:
                raise ObservationError(
                    site,
                    "no value was given, neither in the model nor in `observations`.",
                    f"Give one: observations={{{site.name or 'a name'!r}: ...}}"
                    + ("." if site.name else ", after naming the observe."),
                )
            self.log_weight += self.likelihood_importance * site.log_prob
        elif site.value is None:
            site.value = site.distribution.sample(self.rng)

    def settle_latent(self, site: Site) -> None:
        """Gives a latent its value; from the proposal, where an inner handler set one."""
        proposal = site.proposal
        if proposal is None:
            site.value = site.distribution.sample(self.rng)
        else:
            site.value = proposal.sample(self.rng)
            self.log_weight += site.log_prob - total_log_prob(proposal, site.value)

    def settle_fixed(self, site: Site) -> None:
        """Weighs a latent whose value an inner handler supplied."""
        if site.proposal is not None:
            self.log_weight += site.log_weight

    def postprocess(self, site: Site) -> None:
        pass

    def mark(self) -> Any:
        """What ``rewind`` needs to come back here, the beginning of a pass of a rejection loop."""
        return len(self.sites), dict(self.counts), self.log_weight

    def rewind(self, mark: Any) -> None:
        """Forgets the sites since the mark, a pass that was rejected.

        What its draws weigh by their proposals stays in the weight: they steered the loop.
        """
        count, counts, log_weight = mark
        self.log_weight = log_weight + sum(site.log_weight for site in self.sites[count:] if site.is_latent)
        del self.sites[count:]
        self.counts = dict(counts)


def execute(execution: Execution, model: Callable[[], Any], ambient: tuple = ()) -> Trace:
    """Runs the model once under ``execution`` and returns its Trace.

    Raises:
      PPLError: raised by the package at a site; a ParameterError also says where the distribution was made.
      ModelError: the model raised; names the last site reached and carries the original as its cause.
    """
    try:
        result = run_under(execution, model, ambient)
    except ParameterError as error:
        error.locate(f"{error_site(error.__traceback__)}, {progress_of(execution)}")
        raise
    except PPLError:
        raise
    except Exception as error:
        where = f"{error_site(error.__traceback__)}, {progress_of(execution)}"
        raise ModelError(
            f"The model raised {type(error).__name__}: {error} ({where}, execution {execution.rng.index} of seed "
            f"{execution.rng.seed}). Reproduce it with ppl_jax.handlers.seed(model, seed={execution.rng.seed}, "
            f"index={execution.rng.index})()."
        ) from error
    return Trace(execution.sites, result, execution.log_weight)


def progress_of(execution: Execution) -> str:
    """How far an execution came, for error messages."""
    return f"after the {describe_site(execution.sites[-1])}" if execution.sites else "before the first site"


def handlers_in_force() -> tuple:
    """The user's messengers around an engine call, which apply inside every execution; an engine's own do not."""
    return ambient_messengers(Execution)

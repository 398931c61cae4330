"""One host execution of a model under an engine: the outermost messenger, and the errors that name where it broke."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

from ppl_jax.errors import ModelError, ParameterError, PPLError, describe_site, missing_value, observed_in_scope
from ppl_jax.language.addresses import error_site, is_own
from ppl_jax.language.site import FACTOR, TAG, Site, check_value, total_log_prob
from ppl_jax.language.stack import Messenger, Plain, ambient_messengers, run_under
from ppl_jax.language.trace import Scope, Trace
from ppl_jax.shown import short
from ppl_jax.streams import Stream

_DUTIES = frozenset(name for name in vars(Messenger) if not name.startswith("_"))
NO_DATA: Mapping[str, Any] = {}


class Mark(NamedTuple):
    """Where a pass of a rejection scope begins: numbers of sites, scopes and open scopes, and the weight so far."""

    scope: Any
    sites: int
    log_weight: Any
    scopes: int
    loops: int


class Execution:
    """Numbers instances, supplies data and draws, records sites, and sums the importance weight.

    Args:
      rng: stream of this execution.
      observations: data by name; they win over values given in the model.
      score: False for a prior run: observes without data are drawn and nothing is weighed.
      likelihood_importance: exponent of the likelihood in the weight (tempering).

    Attributes:
      loops: how many rejection scopes are open.
      scopes: the rejection scopes of the execution so far, in the order in which they began.
      proposer: who gives values that are not from the prior, for error messages.
    """

    proposer = "the given proposal"

    __slots__ = (
        "counts",
        "likelihood_importance",
        "log_weight",
        "loops",
        "observations",
        "rng",
        "scopes",
        "score",
        "sites",
    )

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
        self.loops = 0
        self.scopes: list[Scope] = []

    @property
    def steered(self) -> list[Site]:
        """The latents so far whose values come from proposals, in order."""
        return [site for site in self.sites if site.is_latent and site.proposal is not None]

    def process(self, site: Site) -> None:
        address = site.address
        counts = self.counts
        site.instance = counts[address] = counts.get(address, 0) + 1
        self.sites.append(site)
        kind = site.kind
        if kind is TAG:
            return
        if kind is FACTOR:
            if self.loops:
                self.refuse_in_scope(site)
            if self.score:
                self.log_weight += self.likelihood_importance * site.log_prob
            return
        if site.name is not None and site.name in self.observations:
            site.value = check_value(site, self.observations[site.name])
            site.observed = True
        if site.observed:
            if self.loops:
                self.refuse_in_scope(site)
            self.settle_observed(site)
        elif site.value is None:
            self.settle_latent(site)
        else:
            self.settle_fixed(site)

    def settle_observed(self, site: Site) -> None:
        """Weighs an observed value; in a prior run without data draws one."""
        if self.score:
            if site.value is None:
                raise missing_value(site, self.observations, self.sites)
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

    def refuse_in_scope(self, site: Site) -> None:
        """Raises the error of a site that weighs the execution within a rejection scope."""
        raise observed_in_scope(site, next(scope.key for scope in reversed(self.scopes) if scope.last < 0))

    def mark(self, scope: Any) -> Any:
        """What ``rewind`` needs to come back here, the beginning of a pass of a rejection scope (an OpenScope)."""
        if scope.rejected == 0:
            self.loops += 1
            self.scopes.append(Scope(scope.key, len(self.sites), -1, 0))
        return Mark(scope, len(self.sites), self.log_weight, len(self.scopes), self.loops)

    def rewind(self, mark: Any) -> None:
        """Forgets the sites since the mark, a pass that was rejected.

        What its draws weigh by their proposals stays in the weight: they steered the loop.
        """
        rejected = self.sites[mark.sites :]
        self.log_weight = mark.log_weight + sum(site.log_weight for site in rejected if site.is_latent)
        for site in rejected:
            self.counts[site.address] -= 1
        del self.sites[mark.sites :], self.scopes[mark.scopes :]
        self.loops = mark.loops

    def leave(self, mark: Any) -> None:
        """The scope of which this is the first mark ends."""
        scope = self.scopes[mark.scopes - 1]
        self.scopes[mark.scopes - 1] = scope._replace(last=len(self.sites), rejected=mark.scope.rejected)
        self.loops = mark.loops - 1

    def finished_scopes(self) -> tuple[Scope, ...]:
        """The scopes at the end of the execution; one that a simulator left open ends there."""
        if not self.scopes:
            return ()
        end = len(self.sites)
        return tuple(scope if scope.last >= 0 else scope._replace(last=end) for scope in self.scopes)


def execute(execution: Execution, model: Callable[[], Any], ambient: tuple = ()) -> Trace:
    """Runs the model once under ``execution`` and returns its Trace.

    Raises:
      PPLError: raised by the package at a site; a ParameterError also says where the distribution was made.
      ModelError: the model raised; names the last site reached and carries the original as its cause.
    """
    try:
        result = run_under(execution, model, ambient)
    except ParameterError as error:
        error.locate(f"{error_site(error.__traceback__)}, {progress_of(execution)}{proposed_to(execution)}")
        raise
    except ModelError as error:  # from another process, whose text says all but what was proposed
        error.args = (f"{error.args[0]}{proposed_to(execution)}",)
        raise
    except PPLError:
        raise
    except Exception as error:
        where = f"{error_site(error.__traceback__)}, {progress_of(execution)}{proposed_to(execution)}"
        raise ModelError(
            f"{_who(error.__traceback__)} raised {type(error).__name__}: {error} ({where}, "
            f"execution {execution.rng.index} of seed {execution.rng.seed}). Reproduce it with "
            f"ppl_jax.handlers.seed(model, seed={execution.rng.seed}, index={execution.rng.index})()."
        ) from error
    return Trace(execution.sites, result, execution.log_weight, execution.finished_scopes())


def _who(traceback: TracebackType | None) -> str:
    """Who is to blame for an exception: the model, or a handler in which it arose."""
    who = "The model"
    while traceback is not None:
        frame = traceback.tb_frame
        own = frame.f_locals.get("self") if frame.f_code.co_name in _DUTIES else None
        if isinstance(own, Plain) or (isinstance(own, Messenger) and not is_own(frame.f_code.co_filename)):
            who = f"The handler {type(own.inner if isinstance(own, Plain) else own).__name__}"
        traceback = traceback.tb_next
    return who


def progress_of(execution: Execution) -> str:
    """How far an execution came, for error messages."""
    return f"after the {describe_site(execution.sites[-1])}" if execution.sites else "before the first site"


def proposed_to(execution: Execution) -> str:
    """What was last proposed to an execution and by whom, for error messages; "" if nothing was."""
    if not execution.steered:
        return ""
    site = execution.steered[-1]
    return f"; {execution.proposer} had proposed the value {short(site.value)} of the {describe_site(site)}"


def handlers_in_force() -> tuple:
    """The user's messengers around an engine call, which apply inside every execution; an engine's own do not."""
    return ambient_messengers(Execution)

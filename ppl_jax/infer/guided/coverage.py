"""How much of a program a network knows: which draws got its proposals in a run, and which came from their prior.

Call sites are known by their address and family. A program that was edited, or built anew, since the training may have
others; then the prior proposes, and nobody would notice but by a small effective sample size.
"""

from __future__ import annotations

import warnings

from ppl_jax.encoding import shares
from ppl_jax.encoding.coordinates import MOST_CATEGORIES, MOST_ELEMENTS, is_vectorised
from ppl_jax.encoding.shares import number_of_elements
from ppl_jax.errors import NetworkError, describe_site
from ppl_jax.language.site import Site
from ppl_jax.nn.network import Network
from ppl_jax.running.checks import callers_level

ENOUGH = 20  # executions after which a program none of whose latents is known ends the run
_SEEN_OFTEN = 0.05  # draws an execution, from which on a call site without proposals is no rare one
_SHOWN = 3  # call sites that a message names

_REMEDY = (
    "Train one on this program (ppl_jax.train), train this one further on it (network=...), or load the one that was "
    "trained on this very source or build."
)


class Coverage:
    """Counts the controlled draws of a run by whether the network could propose.

    Args:
      network: the network.

    Attributes:
      met: sites for which it proposed.
      unmet: (address, family) of those for which it could not -> one of them, and how many there were.
    """

    def __init__(self, network: Network):
        self._network = network
        self.met = 0
        self.unmet: dict[tuple[str, str], tuple[Site, int]] = {}

    def miss(self, site: Site) -> None:
        """A site came from its prior although it is controlled."""
        key = site.address, site.distribution.family
        found = self.unmet.get(key)
        self.unmet[key] = (site, 1) if found is None else (found[0], found[1] + 1)

    def check(self) -> None:
        """Raises NetworkError if there were latents, and the network was not trained on any of them."""
        sites = self._unforeseen()
        known = self._network.sites
        if self.met or not sites or any(known.row(*key) for key in self.unmet):
            return
        shown = ", ".join(f"the {describe_site(site)} of {site.distribution.family}" for site, _ in sites[:_SHOWN])
        theirs = ", ".join(f"{address} of {family}" for address, family in known.known[:_SHOWN])
        raise NetworkError(
            f"The network knows none of the {len(sites)} call sites at which this program draws controlled latents "
            f"({shown}); those that it was trained on are others ({theirs or 'none'}): it was trained on another "
            f"program, or on one that has changed since. {_REMEDY}"
        )

    def conclude(self, num_executions: int) -> None:
        """Warns of the call sites that had no proposals, unless they are rare.

        Args:
          num_executions: of the run.

        Raises:
          NetworkError: see ``check``.
        """
        self.check()
        sites = self._unforeseen()
        missed = sum(count for _, count in sites)
        share = missed / max(1, missed + self.met)
        if not sites or (share < _SEEN_OFTEN and sites[0][1] < _SEEN_OFTEN * num_executions):
            return
        shown = ", ".join(
            f"the {describe_site(site)} ({count:,} times, {self._why(site)})" for site, count in sites[:_SHOWN]
        )
        more = f", and at {len(sites) - _SHOWN} call sites more" if len(sites) > _SHOWN else ""
        warnings.warn(
            f"The network had no proposals for {100.0 * share:.3g} % of the controlled draws of this program, which "
            f"came from their priors: {shown}{more}. {_REMEDY}",
            UserWarning,
            stacklevel=callers_level(),
        )

    def _unforeseen(self) -> list[tuple[Site, int]]:
        """Sites without proposals and how often each was met, the most frequent first; not what no network does."""
        found = [(site, count) for site, count in self.unmet.values() if _is_for_networks(site)]
        return sorted(found, key=lambda pair: -pair[1])

    def _why(self, site: Site) -> str:
        row = self._network.sites.row(site.address, site.distribution.family)
        if row:
            visits, least = self._network.visits[row], self._network.least_visits
            return f"on which it was trained {visits:,} times, fewer than {least:,}"
        families = [family for address, family in self._network.sites.known if address == site.address]
        if families:
            return f"now of {site.distribution.family}, in training of {families[0]}"
        return "unknown to it"


def _is_for_networks(site: Site) -> bool:
    """Whether a network can learn to propose for a site; see :func:`ppl_jax.encoding.tokens.proposable`."""
    prior = site.distribution
    family, elements = prior.family, number_of_elements(prior.family, prior.shape)
    if family in ("Delta", "Factor") or elements > MOST_ELEMENTS:
        return False
    if family == "Categorical":
        return bool(prior.probs.shape[-1] <= MOST_CATEGORIES)
    return prior.shape == () or is_vectorised(family) or family == "MultivariateNormal" or family in shares.FAMILIES

"""Numbers of the protocol: capabilities, codes, kinds, union members, families and limits (see PROTOCOL.md)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

VERSION = 2


class Capability(IntFlag):
    """Bits of a handshake; the active set is what both sides announced."""

    ERRORS = 1
    FAMILIES = 2
    SITES = 4
    DRAWS = 8
    SHARED_MEMORY = 16
    MORE_FAMILIES = 32


NEEDS = {
    Capability.SITES: Capability.ERRORS,
    Capability.DRAWS: Capability.SITES,
    Capability.MORE_FAMILIES: Capability.FAMILIES,
}
ALL_CAPABILITIES = Capability(63)


def active(ours: int, theirs: int) -> Capability:
    """The capabilities in both sets whose needs are met."""
    both = Capability(ours & theirs & ALL_CAPABILITIES)
    for bit, need in NEEDS.items():
        if bit in both and need not in both:
            both &= ~bit
    return both


class ErrorCode(IntEnum):
    """What an Error message is about; PROTOCOL.md, section 6."""

    UNKNOWN = 0
    MALFORMED = 1
    OUT_OF_STATE = 2
    UNSUPPORTED = 3
    PARAMETER = 4
    MODEL = 5
    ABORTED = 6
    TOO_LARGE = 7


class SiteKind(IntEnum):
    """What kind of statement a site is; PROTOCOL.md, section 7."""

    SAMPLE = 0
    OBSERVE = 1
    TAG = 2
    FACTOR = 3
    RESULT = 4
    SCOPE_BEGIN = 5
    SCOPE_REJECT = 6
    SCOPE_END = 7


BODIES = (
    "Handshake", "HandshakeResult", "Run", "RunResult", "Sample", "SampleResult", "Observe", "ObserveResult", "Tag",
    "TagResult", "Reset", "Error",
)  # fmt: skip
BODY_NUMBERS = {name: number for number, name in enumerate(BODIES, 1)}

# Family -> its parameters, in order, under the names of the schema.
FAMILIES: dict[str, tuple[str, ...]] = {
    "Normal": ("mean", "stddev"),
    "Uniform": ("low", "high"),
    "Categorical": ("probs",),
    "Poisson": ("rate",),
    "Bernoulli": ("probs",),
    "Beta": ("concentration1", "concentration0"),
    "Exponential": ("rate",),
    "Gamma": ("concentration", "rate"),
    "LogNormal": ("loc", "scale"),
    "Binomial": ("total_count", "probs"),
    "Weibull": ("scale", "concentration"),
    "TruncatedNormal": ("loc", "scale", "low", "high"),
    "VonMises": ("loc", "concentration"),
    "Mixture": ("probs", "components"),
    "MultivariateNormal": ("loc", "scale_tril"),
    "Delta": ("value",),
    "NegativeBinomial": ("total_count", "probs"),
    "NegativeBinomial2": ("mean", "concentration"),
    "BetaBinomial": ("concentration1", "concentration0", "total_count"),
    "Geometric": ("probs",),
    "Hypergeometric": ("population", "successes", "draws"),
    "ZeroInflatedPoisson": ("gate", "rate"),
    "StudentT": ("df", "loc", "scale"),
    "Cauchy": ("loc", "scale"),
    "HalfCauchy": ("scale",),
    "HalfNormal": ("scale",),
    "Laplace": ("loc", "scale"),
    "Logistic": ("loc", "scale"),
    "Gumbel": ("loc", "scale"),
    "InverseGamma": ("concentration", "rate"),
    "Pareto": ("scale", "alpha"),
}
FAMILY_NAMES = tuple(FAMILIES)
FAMILY_NUMBERS = {name: number for number, name in enumerate(FAMILY_NAMES, 1)}
LAST_PLAIN_FAMILY = FAMILY_NUMBERS["Weibull"]  # those after it need Capability.FAMILIES
LAST_OF_FAMILIES = FAMILY_NUMBERS["Delta"]  # those after it need Capability.MORE_FAMILIES

MAX_MESSAGE = 64 << 20
MAX_STRING = 65_535
MAX_DIMENSIONS = 16
MAX_ELEMENTS = 2**31
MAX_MIXTURE_DEPTH = 8
MAX_COMPONENTS = 65_536
MAX_SITES = 1 << 20

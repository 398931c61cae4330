"""What the tests of tau decays by one event generator and by another look for in a trace."""

import numpy as np
from scipy import stats

NEUTRINOS = (12, 14, 16)


def particles_of(trace):
    """Rows of pdg number, px, py, pz, E of the final particles."""
    table = trace["particles"]
    return table[table[:, 0] != 0.0]


def is_whole(trace):
    """Whether the table, which has eight rows, can hold all particles."""
    return len(particles_of(trace)) < 8


def visible_sum(particles):
    """px, py, pz, E of all particles that are no neutrinos."""
    return particles[~np.isin(np.abs(particles[:, 0]), NEUTRINOS), 1:].sum(axis=0)


def values_of(trace):
    """All values of a trace, and of what."""
    return [(site.address, site.instance, np.asarray(site.value).tolist()) for site in trace.sites]


def chi_square(counts, expected):
    """The p-value of counts; categories of which fewer than five are expected are taken together."""
    rare = expected < 5.0
    counts, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    return stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue

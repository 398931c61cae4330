"""What the tests of tau decays by one event generator and by another look for in traces, and check of them.

Traces are the simulator's, with PPX; decays at rest are the generator's own (see tau_programs.decays_at_rest).
"""

import collections

import numpy as np
from scipy import stats

NEUTRINOS = (12, 14, 16)
LEAST_P_VALUE = 1e-4  # of a test at a fixed seed


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


def check_products(traces, channel, products):
    """All decays in a channel have the final particles of these pdg numbers, in rising order."""
    traces = [trace for trace in traces if trace["channel"] == channel]
    assert traces
    for trace in traces:
        assert sorted(particles_of(trace)[:, 0]) == products


def check_branching_ratios(channels, traces, decays):
    """Traces and decays at rest have the 38 channels in the proportion of their branching ratios, of sum 1."""
    ratios = np.array([channel["branching_ratio"] for channel in channels])
    assert len(ratios) == 38
    assert abs(ratios.sum() - 1.0) < 1e-6
    for events in (traces, decays):
        counts = np.bincount([event["channel"] for event in events], minlength=len(ratios))
        assert chi_square(counts, len(events) * ratios) > LEAST_P_VALUE


def check_known_ratios(channels, known):
    """The branching ratios of channels by name are ``known``, per cent, to 2 per cent of each."""
    ratios = {channel["name"]: 100.0 * channel["branching_ratio"] for channel in channels}
    for name, ratio in known.items():
        assert abs(ratios[name] / ratio - 1.0) < 0.02, name


def check_isotropy(decays):
    """The visible momentum of decays at rest has any direction: Kolmogorov and Smirnov's test."""
    directions = np.array([visible_sum(np.array(decay["particles"]))[:3] for decay in decays])
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    azimuths = np.arctan2(directions[:, 1], directions[:, 0])
    assert stats.kstest(directions[:, 2], stats.uniform(-1.0, 2.0).cdf).pvalue > LEAST_P_VALUE
    assert stats.kstest(azimuths, stats.uniform(-np.pi, 2.0 * np.pi).cdf).pvalue > LEAST_P_VALUE


def check_kinematics(traces, decays, channels):
    """Invariant masses of the visible part, with PPX (in the laboratory) and without (at rest), channel by channel."""
    with_ppx, alone = (
        _squared_masses((event["channel"], particles) for event, particles in events)
        for events in (
            ((trace, particles_of(trace)) for trace in traces if is_whole(trace)),
            ((decay, np.array(decay["particles"])) for decay in decays),
        )
    )
    for channel in channels:
        assert len(alone[channel]) > 100
        assert stats.ks_2samp(with_ppx[channel], alone[channel]).pvalue > LEAST_P_VALUE, channel


def _squared_masses(events):
    """Channel -> squared invariant masses of the visible part, GeV^2; events are pairs of channel and particles."""
    found = collections.defaultdict(list)
    for channel, particles in events:
        x, y, z, energy = visible_sum(particles)
        found[channel].append(energy**2 - x**2 - y**2 - z**2)
    return found

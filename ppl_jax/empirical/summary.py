"""A posterior in a line, and in a table for notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ppl_jax.empirical.convergence import pareto_limit
from ppl_jax.empirical.weights import log_sum
from ppl_jax.errors import DegenerateWeightsError
from ppl_jax.language.site import SAMPLE
from ppl_jax.shown import element_name, html_table
from ppl_jax.storage import TraceTable

if TYPE_CHECKING:
    from ppl_jax.empirical.empirical import Empirical

_MOST_NAMES, _MOST_ELEMENTS = 12, 8  # that are shown


def one_line(posterior: Empirical) -> str:
    """What ``repr`` gives."""
    try:
        parts = [_counted(posterior), f"effective_sample_size={posterior.effective_sample_size:.1f}"]
    except DegenerateWeightsError:
        return f"Empirical({_counted(posterior)}, all weights zero)"
    if posterior.num_chains > 1 and posterior.r_hat == posterior.r_hat:
        parts.append(f"r_hat={posterior.r_hat:.3f}")
    if posterior.pareto_k > pareto_limit(len(posterior)):
        parts.append(f"pareto_k={posterior.pareto_k:.2f}: weights too uneven to trust")
    values = posterior.values
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub" and values[0].size <= _MOST_ELEMENTS:
        parts.append(f"mean={posterior.mean}")
    return f"Empirical({', '.join(parts)})"


def as_html(posterior: Empirical) -> str:
    """The same, and mean, standard deviation and quantiles of the named latents that all traces have."""
    caption = one_line(posterior)
    if log_sum(posterior.log_weights) == -np.inf:  # nothing is known of any number
        return html_table(caption, [], [])
    chains = posterior.num_chains > 1
    heads = ["", "mean", "sd", "5 %", "50 %", "95 %", "effective sample size", *(["R-hat"] if chains else [])]
    columns = list(_columns(posterior))
    if not columns:
        return html_table(caption, [], [], ["Choose numbers to see more: posterior.map('name')."])
    rows = [_row(name, column, chains) for name, column in columns[:_MOST_NAMES]]
    left_out = len(columns) - len(rows)
    return html_table(caption, heads, rows, [f"and {left_out} more: posterior.map('name')"] if left_out else [])


def _counted(posterior: Empirical) -> str:
    what = "traces" if isinstance(posterior.values, TraceTable) else "values"
    chains = f" in {posterior.num_chains} chains" if posterior.num_chains > 1 else ""
    return f"{len(posterior)} {what}{chains}"


def _columns(posterior: Empirical) -> Iterator[tuple[str, Empirical]]:
    """Each number that has a name, one for each element of small arrays, and how it is called."""
    if isinstance(posterior.values, TraceTable):
        parts = [(name, posterior.map(name)) for name in _latent_names(posterior.values)]
    else:
        parts = [("value", posterior)]
    for name, part in parts:
        values = part.values
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub" or values[0].size > _MOST_ELEMENTS:
            continue
        if values.ndim == 1:
            yield name, part
            continue
        for index in np.ndindex(values.shape[1:]):
            yield (
                element_name(name, index),
                part._with(values[:, *index], part.log_weights, None, part.num_executions, part.num_chains),
            )


def _latent_names(table: TraceTable) -> list[str]:
    """The names of latents that all traces have, in the order of the first."""
    layouts = [layout for layout, _ in table.groups()]
    found = [
        dict.fromkeys(site.name for site in layout.sites if site.name and site.kind == SAMPLE and not site.observed)
        for layout in layouts
    ]
    return [name for name in found[0] if all(name in others for others in found[1:])]


def _row(name: str, column: Empirical, chains: bool) -> list[str]:
    numbers = [column.mean, column.stddev, *column.quantile([0.05, 0.5, 0.95])]
    row = [name, *(f"{number:.4g}" for number in numbers), f"{column.effective_sample_size:.0f}"]
    return [*row, f"{column.r_hat:.3f}"] if chains else row

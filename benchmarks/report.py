"""The result of a run as tables: text for the terminal, Markdown for the README, from the same rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures: written by run.py --write -->", "<!-- end of the figures -->"
MIB = 2**20
IDLE = 0.95  # the least share of its core that a timed process must have had

Table = tuple[list[str], list[list[str]]]  # heads, rows
Layout = Callable[[list[str], list[list[str]]], str]


def origin(recorded: dict[str, Any]) -> str:
    """Where the recorded figures of the peer come from."""
    return f"recorded figures: {recorded['peer']}, {recorded['date']}, {recorded['machine']}"


def works_table(result: dict[str, Any]) -> Table:
    """Executions per second of every work."""
    heads = ["work, one core", "ours, median", "(low to high)", "floor", "peer", "ours / peer", "exact mean"]
    rows = []
    for figure in result["works"]:
        rows.append(
            [
                f"{figure['program']} {figure['engine']}, {figure['backend']}",
                f"{figure['median']:,.0f} {figure['unit']}" if figure["resolved"] else "too short to tell",
                f"{figure['low']:,.0f} to {figure['high']:,.0f}" if figure["resolved"] else "",
                _rate(figure["floor"]),
                _rate(figure["peer"] and figure["peer"]["median"]),
                "" if figure["ratio"] is None else f"{figure['ratio']:.1f}",
                f"{figure['deviation']:.1f} s.e. off" + ("" if figure["correct"] else ": WRONG"),
            ]
        )
    return heads, rows


def memory_table(result: dict[str, Any]) -> Table:
    """Resident memory of processes that hold a posterior."""
    heads = ["GUM posterior", "before", "holding it", "peak", "posterior mean", "seconds"]
    rows = []
    for figure in result["memory"]:
        rows.append(
            [
                f"{figure['traces']:,} traces, {figure['backend']}, {'on disk' if figure['on_disk'] else 'in memory'}",
                *(f"{figure[key] / MIB:,.0f} MiB" for key in ("before", "holding", "peak")),
                f"{figure['mean']:.3f}",
                f"{figure['seconds']:.1f}",
            ]
        )
    return heads, rows


def flatness_table(result: dict[str, Any]) -> Table:
    """Private memory over the time of a run."""
    if not result["memory"]:
        return [], []
    heads = ["private memory after", *(f"{share:.0%}" for share, _ in result["memory"][0]["private"]), "end / 25%"]
    rows = []
    for figure in result["memory"]:
        private = [memory for _, memory in figure["private"]]
        rows.append(
            [
                f"{figure['traces']:,} traces, {figure['backend']}, {'on disk' if figure['on_disk'] else 'in memory'}",
                *(f"{memory / MIB:,.0f} MiB" for memory in private),
                f"{private[-1] / private[1]:.2f} ({figure['growth']:+.0f} bytes a trace)",
            ]
        )
    return heads, rows


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}"


def remarks(result: dict[str, Any]) -> list[str]:
    """What a table cannot hold: one sentence each."""
    machine = result["machine"]
    said = [
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores of which one is used, "
        f"{machine['memory_gib']} GiB, {machine['system']}, load {machine['load']} when the run began; Python "
        f"{machine['python']}, numpy {machine['numpy']}, jax {machine['jax']}, numpyro {machine['numpyro']}.",
        f"Median of {result['settings']['repeats']} repeats."
        + (" A quick look at a quarter of the work: take no figure from it." if result["settings"]["quick"] else ""),
        f"Peer: {result['peer']}.",
    ]
    shares = [figure["core_share"] for figure in result["works"]]
    if shares:
        warning = "" if min(shares) > IDLE else " The machine was busy with other things: take no figure from this run."
        said.append(f"While they were timed our engines had their core {min(shares):.0%} of the time or more.{warning}")
    if result["empty_call"]:
        said.append(f"An empty Python function call in a loop takes {1e9 * result['empty_call']:.0f} ns.")
    for figure in result["works"]:
        name = f"{figure['program']} {figure['engine']}, {figure['backend']}"
        if figure["start"]:
            said.append(
                f"{name}: beside this rate, a call takes {figure['first_start']:.2f} s for tracing and compiling, "
                f"{figure['start']:.2f} s where JAX's compilation cache has the program."
            )
        if not figure["resolved"]:
            said.append(f"{name}: a call of {figure['number']:,} takes less than twice its start: time more of them.")
        elif figure["engine"] == "nuts" or figure["engine"].endswith("mh"):
            said.append(f"{name}: {figure['ess_per_second']:,.0f} effective samples/s.")
    return said


def text(result: dict[str, Any]) -> str:
    """The whole result for a terminal."""
    return _tables(result, _aligned) + "\n".join(remarks(result))


def write_readme(result: dict[str, Any]) -> None:
    """Replaces the section of README.md between the two marks."""
    before, rest = README.read_text().split(BEGIN)
    _, after = rest.split(END)
    said = "\n".join(f"- {sentence}" for sentence in remarks(result))
    README.write_text(f"{before}{BEGIN}\n\n{_tables(result, _markdown)}{said}\n\n{END}{after}")


def _tables(result: dict[str, Any], layout: Layout) -> str:
    tables = (works_table(result), memory_table(result), flatness_table(result))
    return "".join(layout(heads, rows) + "\n\n" for heads, rows in tables if rows)


def _aligned(heads: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    lines = []
    for row in [heads, *rows]:
        first, *others = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]))
    return "\n".join(lines)


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)

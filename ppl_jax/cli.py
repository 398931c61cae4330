"""The command ``ppl-jax``: what can be done to files without a program.

ppl-jax dataset info PATH              what a dataset holds
ppl-jax dataset merge NEW PATH...      a dataset made of the shards of others, where these are
ppl-jax dataset verify PATH...         reads every byte; the exit status is 1 if something is damaged
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ppl_jax import __version__
from ppl_jax.data import merge_datasets, open_dataset, verify_dataset
from ppl_jax.data.description import described
from ppl_jax.errors import PPLError

_EXAMPLES = """examples:
  ppl-jax dataset info traces/              what a dataset holds
  ppl-jax dataset merge all/ run1/ run2/    one dataset of the shards of others
  ppl-jax dataset verify traces/            reads every byte

Models are programs in Python: import ppl_jax, and see help(ppl_jax)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; gives its exit status: 0, 1 if something is damaged, 2 if it cannot be done."""
    parser = argparse.ArgumentParser(
        prog="ppl-jax",
        description="Bayesian inference in simulators: what can be done to files without a program.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ppl-jax {__version__}")
    parser.set_defaults(run=lambda parsed: _help(parser))
    rooms = parser.add_subparsers(metavar="WHAT", title="what to work on")
    of_datasets = rooms.add_parser("dataset", help="datasets of traces: info, merge, verify")
    of_datasets.set_defaults(run=lambda parsed: _help(of_datasets))
    dataset = of_datasets.add_subparsers(metavar="COMMAND", title="commands")

    info = dataset.add_parser("info", help="what a dataset holds")
    info.add_argument("path", type=Path)
    info.add_argument("--recover", action="store_true", help="leave out what is damaged")
    info.add_argument("--all", action="store_true", help="show all trace types and addresses")
    info.set_defaults(run=_info)

    merge = dataset.add_parser("merge", help="a dataset made of the shards of others, which are not copied")
    merge.add_argument("new", type=Path, help="folder of the new dataset, or of one to add to")
    merge.add_argument("path", type=Path, nargs="+", help="datasets of the same model")
    merge.set_defaults(run=_merge)

    verify = dataset.add_parser("verify", help="read every byte and compare it with the checksums")
    verify.add_argument("path", type=Path, nargs="+")
    verify.set_defaults(run=_verify)

    parsed = parser.parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
        return status
    except PPLError as error:
        print(f"ppl-jax: {error}", file=sys.stderr)
        return 2


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0


def _info(arguments: argparse.Namespace) -> int:
    print(described(open_dataset(arguments.path, recover=arguments.recover).info(), arguments.all))
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    merged = merge_datasets(arguments.path, arguments.new)
    print(f"{merged.path}: {len(merged)} traces of {len(merged.types)} types in {merged.info().shards} shards")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    damaged = False
    for path in arguments.path:
        problems = verify_dataset(path)
        damaged |= bool(problems)
        print(*(problems or [f"{path}: every byte agrees with its checksum."]), sep="\n")
    return int(damaged)


if __name__ == "__main__":
    sys.exit(main())

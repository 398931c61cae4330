"""Every error that is raised in the package says what to do, or what was expected."""

import ast
import re
from pathlib import Path

import ppl_jax

ROOT = Path(ppl_jax.__file__).parent
# Those that are completed where they are caught: by what a peer was doing, the name of a parameter, the file.
COMPLETED = {
    "ConnectionLost",
    "Silence",
    "MalformedMessage",
    "UnsupportedMessage",
    "RemoteParameterError",
    "ParameterError",
    "MissingPackageError",
    "AssertionError",
    "AttributeError",
    "as_exception",
    "self.strayed",
    "self.refuse",  # and two more of what a front end answers a peer
    "TooLarge",
    "OutOfState",
}
PARTS = {
    "the layouts have other lengths than their sites",
    "the groups are not where they belong",
    "the directory is not one of this version ({}).",
    "the checksum of the directory is wrong.",
    "the directory contradicts the header.",
    "the checksum of {} is another",
    "it does not continue the blocks before it.",
    "its traces are described in a block before it, which is damaged.",
    "{} has a random number of passes",
    "{} the value {} {}. {}",  # whose remedy is below
    "The loss was not finite in {} steps in a row, the last one number {}. {}",
}
IN_PARTS = {"distributions/numbers.py"}  # what a given value is, after the name of the parameter or the site
EXPECTED = re.compile(r"\bmust\b|\bexpected\b|\bneeds?\b")


def text(node):
    """The literal text of an expression, holes as {}."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text, node.values))
    if isinstance(node, ast.BinOp):
        return text(node.left) + text(node.right)
    if isinstance(node, ast.IfExp):
        return f"{text(node.body)} {text(node.orelse)}"
    return "{}"


def raised():
    """(where, class, message) of every raise with a text."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                said = " ".join(text(argument) for argument in node.exc.args)
                if re.search(r"[a-z]{3}", said):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.exc.func), said


def raised_to_users():
    """Without those that are completed where they are caught."""
    return [
        (where, kind, said)
        for where, kind, said in raised()
        if kind not in COMPLETED and said not in PARTS and where.split(":")[0] not in IN_PARTS
    ]


VERBS = """add append ask bind build call change choose combine correct cut derive do draw finish give leave
    let look make map mask move name observe open propose raise read reproduce restore return run sample
    state take train use wait wrap write"""
WHAT_TO_DO = re.compile(rf"(?:^|\(|[.:;,}}] )(?:{'|'.join(VERBS.split())})\b", re.IGNORECASE)


def test_every_error_says_what_to_do_or_what_was_expected():
    silent = [
        f"{where} {kind}: {said}"
        for where, kind, said in raised_to_users()
        if not WHAT_TO_DO.search(said) and not EXPECTED.search(said)
    ]
    assert len(raised_to_users()) > 150
    assert not silent, "\n".join(silent)

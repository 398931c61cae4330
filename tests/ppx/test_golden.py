"""The golden files mean what their index says, and PROTOCOL.md's known answers are right."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import ppl_jax.distributions as dist
import ppx
from ppl_jax.distributions.layouts import rebuild
from ppl_jax.streams import Stream, philox
from ppx import messages as m
from ppx.constants import BODIES, FAMILIES
from ppx.positions import PositionedStream

GOLDEN = Path(__file__).parent / "golden"
PROTOCOL = (Path(__file__).resolve().parents[2] / "ppx" / "PROTOCOL.md").read_text()
INDEX = json.loads((GOLDEN / "messages.json").read_text())
DRAWS = json.loads((GOLDEN / "draws.json").read_text())


@pytest.fixture(scope="module")
def meaning():
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.meaning


@pytest.mark.parametrize("entry", INDEX["messages"], ids=lambda entry: entry["file"])
def test_messages_mean_what_the_index_says(entry, meaning):
    data = (GOLDEN / entry["file"]).read_bytes()
    decoder, encoder = ppx.Decoder(), ppx.Encoder()
    for _ in range(2):
        assert meaning(decoder(data)) == entry["message"]
        assert meaning(ppx.decode(encoder(decoder(data)))) == entry["message"]


@pytest.mark.parametrize("entry", INDEX["malformed"], ids=lambda entry: entry["file"])
def test_malformed_messages_are_refused(entry):
    error = {"Malformed": ppx.MalformedMessage, "Unsupported": ppx.UnsupportedMessage}[entry["error"]]
    with pytest.raises(error):
        ppx.Decoder()((GOLDEN / entry["file"]).read_bytes())


def test_every_kind_of_message_and_family_is_there():
    members = {member for entry in INDEX["messages"] for member in entry["message"]}
    assert members == set(BODIES)
    families = {
        family
        for entry in INDEX["messages"]
        for family in (entry["message"].get("Sample", {}).get("distribution") or ())
    }
    assert families == set(FAMILIES)
    listed = {entry["file"] for entry in INDEX["messages"] + INDEX["malformed"]}
    assert listed == {path.name for path in GOLDEN.glob("*.bin")}


# -- draws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", DRAWS["streams"], ids=lambda stream: f"{stream['seed']}, {stream['index']}")
def test_streams_give_the_golden_uniforms(stream):
    rng, seeking = Stream(int(stream["seed"]), int(stream["index"])), None
    expected = [float.fromhex(number) for number in stream["uniforms"]]
    assert [rng.random() for _ in expected] == expected
    for start in (0, 1, 2, 7, 17, 39):
        seeking = PositionedStream(int(stream["seed"]), int(stream["index"]), start)
        assert [seeking.random() for _ in expected[start:]] == expected[start:]
        assert seeking.position == len(expected)


def as_layout(found):
    """A layout as JSON has it, as a tuple."""
    return tuple(as_layout(part) if isinstance(part, list) else part for part in found)


@pytest.mark.parametrize("golden", DRAWS["samplers"], ids=lambda golden: "-".join(map(str, golden["layout"][:1])))
def test_samplers_give_the_golden_draws(golden):
    """To a relative 1e-13: other C libraries round their functions to other last bits (an ulp is 2e-16)."""
    distribution = rebuild(as_layout(golden["layout"]), [float.fromhex(number) for number in golden["numbers"]])
    rng = PositionedStream(int(DRAWS["seed"]), int(DRAWS["index"]))
    draws = [np.ravel(distribution.sample(rng)) for _ in golden["draws"]]
    expected = [[float.fromhex(number) for number in draw] for draw in golden["draws"]]
    np.testing.assert_allclose(draws, expected, rtol=1e-13)
    assert rng.position == golden["position"]
    assert list(distribution.shape) == golden["shape"]


# -- section 15 of PROTOCOL.md ----------------------------------------------------------------------------------------

KNOWN_ANSWERS = PROTOCOL[PROTOCOL.index("## 15 Known answers") :]
_HEX = r"-?0x1\.[0-9a-f]+p[+-]\d+"


def test_known_answers_of_the_generator():
    words = re.findall(r"counter ([0-9a-f ]+),\s+key ([0-9a-f ]+)→ ([0-9a-f ]+)", KNOWN_ANSWERS.replace("\n", " "))
    assert len(words) == 2
    for counter, key, expected in words:
        counter, key, expected = ([int(word, 16) for word in part.split()] for part in (counter, key, expected))
        found = philox(tuple(np.uint64(word) for word in counter), tuple(key))
        assert [int(word) for word in found] == expected


def test_known_answers_of_the_streams():
    rows = re.findall(rf"^\| (\w+), (\w+) \| ((?:{_HEX} ?)+)\|$", KNOWN_ANSWERS, re.MULTILINE)
    assert len(rows) == 3
    for seed, index, uniforms in rows:
        rng = Stream(int(seed, 0), int(index, 0))
        assert [rng.random() for _ in range(4)] == [float.fromhex(number) for number in uniforms.split()]


def test_known_answers_of_the_samplers():
    rows = re.findall(r"^\| ([A-Z]\w+\(.*\)) \| (.*) \| (\d+) \|$", KNOWN_ANSWERS, re.MULTILINE)
    assert len(rows) == 35
    assert {text.split("(")[0] for text, _, _ in rows} == set(FAMILIES) - {"Delta"}
    for text, draws, uniforms in rows:
        distribution = parsed(text)
        rng = PositionedStream(42, 7)
        found = np.array([np.ravel(distribution.sample(rng)) for _ in range(2)])
        expected = [[parsed_number(number) for number in draw.split()] for draw in draws.split(",")]
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        assert rng.position == int(uniforms), text


def parsed_number(text):
    return float.fromhex(text) if "0x" in text else float(text)


def parsed(text):
    """The distribution that a line names: FAMILY(arguments), which are numbers, lists and distributions."""
    family, arguments = re.fullmatch(r"(\w+)\((.*)\)", text).groups()
    inner = re.findall(r"[A-Z]\w+\([^()]*\)", arguments)
    for number, part in enumerate(inner):
        arguments = arguments.replace(part, f'"{number}"', 1)
    given = [
        [parsed(inner[int(part)]) if isinstance(part, str) else part for part in argument]
        if isinstance(argument, list)
        else argument
        for argument in json.loads(f"[{arguments}]")
    ]
    return getattr(dist, family)(*given)


@pytest.mark.parametrize(
    ("title", "message"),
    [
        ("`SampleResult {", m.SampleResult((), (0.7,))),
        ("`Sample { site: 1", m.Sample(site=1, numbers=(1.0, 2.0), position=3)),
    ],
)
def test_messages_byte_by_byte(title, message):
    """The listings are valid messages with that meaning, and the offsets in their first column are right."""
    text = KNOWN_ANSWERS[KNOWN_ANSWERS.index(title) :]
    said = int(re.search(r"(\d+) bytes", text).group(1))
    data = bytearray()
    for offset, found in re.findall(
        r"^ +(\d+)  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  |$)", text.split("\n\n")[1], re.MULTILINE
    ):
        assert int(offset) == len(data)
        data += bytes.fromhex(found)
    assert len(data) == said
    assert ppx.decode(bytes(data)) == message


def test_the_quantile_of_the_standard_normal_is_the_documented_one():
    """The coefficients as PROTOCOL.md prints them, evaluated as it says, give the draws of Normal(0, 1) bit for bit."""
    section = PROTOCOL[PROTOCOL.index("**Quantile of the standard normal**") : PROTOCOL.index("## 12")]
    letters = dict(re.findall(r"^    ([A-F])  ((?:[^A-F\n]+\n)+)", section, re.MULTILINE))
    rows = {letter: [float(number) for number in numbers.split()] for letter, numbers in letters.items()}
    assert [len(rows[letter]) for letter in "ABCDEF"] == [8] * 6

    def horner(letter, r):
        value = 0.0
        for coefficient in rows[letter]:
            value = value * r + coefficient
        return value

    def quantile(p):
        q = p - 0.5
        if abs(q) <= 0.425:
            r = 0.180625 - q * q
            return horner("A", r) * q / horner("B", r)
        r = math.sqrt(-math.log(p if q <= 0 else 1 - p))
        x = horner("C", r - 1.6) / horner("D", r - 1.6) if r <= 5 else horner("E", r - 5) / horner("F", r - 5)
        return -x if q < 0 else x

    class Fixed:
        def __init__(self, p):
            self.random = lambda: p

    for p in [2.0**-53, 1e-12, 0.01, 0.074, 0.076, 0.3, 0.5, 0.7, 0.926, 0.99, 1 - 2.0**-53]:
        assert dist.Normal(0.0, 1.0).sample(Fixed(p)) == quantile(p)

"""Writes the golden files beside it: messages with their meaning, and the draws of every sampler.

    python tests/ppx/golden/make.py

The files are for front ends in any language to be tested against. They stay as they are when the codec changes: any
valid FlatBuffer of the same contents is the same message. Write them anew only when the protocol grows.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent)]

import official  # noqa: E402

import ppl_jax.distributions as dist  # noqa: E402
import ppx  # noqa: E402
from ppl_jax.streams import Stream  # noqa: E402
from ppx import messages as m  # noqa: E402
from ppx.constants import FAMILIES, ErrorCode, SiteKind  # noqa: E402

# -- meaning: a message as JSON, with the names of the schema ---------------------------------------------------------


def _tensor(shape: Any, numbers: Any) -> Any:
    return None if shape is None else {"data": [float(number) for number in numbers], "shape": list(shape)}


def _distribution(layout: Any, numbers: list[float] | None) -> Any:
    if layout is None:
        return None

    def parameter(shape: Any) -> Any:
        if numbers is None:
            return {"shape": list(shape)}
        count = math.prod(shape)
        data, numbers[:count] = numbers[:count], []
        return _tensor(shape, data)

    fields = {}
    for name, shape in zip(FAMILIES[layout[0]], layout[1:], strict=True):
        if name == "components":
            fields[name] = [{"distribution": _distribution(component, numbers)} for component in shape]
        else:
            fields[name] = parameter(shape)
    return {layout[0]: fields}


def _error(error: m.Error) -> dict[str, Any]:
    code = "".join(word.capitalize() for word in ErrorCode(error.code).name.split("_"))
    return {"code": code, "text": error.text, "address": error.address, "execution": error.execution}


def _traces(traces: m.Traces | None) -> Any:
    if traces is None:
        return None
    return {
        "sites": [
            {
                "kind": "".join(word.capitalize() for word in SiteKind(site.kind).name.split("_")),
                "address": site.address,
                "name": site.name,
                "distribution": _distribution(site.layout, None),
                "value_shape": None if site.shape is None else list(site.shape),
                "control": bool(site.control),
            }
            for site in traces.sites
        ],
        "type_lengths": [len(numbers) for numbers in traces.type_sites],
        "type_sites": [number for numbers in traces.type_sites for number in numbers],
        "types": [int(number) for number in traces.types],
        "rows": [float(number) for number in traces.rows],
        "errors": [_error(error) for error in traces.errors],
    }


def _draws(draws: m.Draws | None) -> Any:
    if draws is None:
        return None
    policy = replay = None
    if draws.policy is not None:
        policy = {
            "asked": list(draws.policy.asked),
            "ask_others": bool(draws.policy.ask_others),
            "observations": [
                {"name": name, "value": _tensor(shape, value)} for name, shape, value in draws.policy.observations
            ],
        }
    if draws.replay is not None:
        replay = {"sites": list(draws.replay.sites), "instances": list(draws.replay.instances)}
        replay["values"] = [float(number) for number in draws.replay.values]
    scalars = {"seed": str(draws.seed), "first": str(draws.first), "count": draws.count}
    return {**scalars, "position": str(draws.position), "policy": policy, "replay": replay}


def meaning(message: Any) -> dict[str, Any]:
    """A message as JSON: {member: fields}. null is absence, integers of 64 bits are strings, scalars have shape []."""
    kind = type(message)
    fields = {name: value for name, value in message._asdict().items() if type(value) is str}
    if kind is m.Error:
        fields = _error(message)
    elif kind in (m.Handshake, m.HandshakeResult):
        fields |= {"version": message.version, "capabilities": int(message.capabilities)}
        if kind is m.Handshake:
            shared = message.shared_memory
            sizes = {} if shared is None else {"size": str(shared.size), "nonce": str(shared.nonce)}
            fields["shared_memory"] = None if shared is None else {"pid": shared.pid, "fd": shared.fd, **sizes}
    elif kind is m.Run:
        fields["draws"] = _draws(message.draws)
    elif kind is m.RunResult:
        fields |= {"result": _tensor(message.shape, message.value), "traces": _traces(message.traces)}
    elif kind is m.SampleResult:
        fields["result"] = _tensor(message.shape, message.value)
    elif kind is m.Sample and message.site:
        fields = {"site": message.site, "parameters": [float(number) for number in message.numbers]}
        fields["traces"] = _traces(message.traces)
    elif kind is m.Sample:
        fields |= {"distribution": _distribution(message.layout, list(message.numbers)), "control": message.control}
    elif kind in (m.Observe, m.Tag):
        if kind is m.Observe:
            fields["distribution"] = _distribution(message.layout, list(message.numbers))
        fields["value"] = _tensor(message.shape, message.value)
    if hasattr(message, "position"):
        fields["position"] = str(message.position)
    return {kind.__name__: fields}


# -- messages ---------------------------------------------------------------------------------------------------------

LONG_ADDRESS = "[" + "; ".join(f"decay::channel{k}(double, int)+0x{64 + 8 * k:x}" for k in range(48)) + "]"
NORMAL = ("Normal", (), ())
MU, OBS = m.Site(SiteKind.SAMPLE, "f:3", "mu", NORMAL, ()), m.Site(SiteKind.OBSERVE, "f:4", "obs0", NORMAL, None)
ENERGY, RESULT = m.Site(SiteKind.TAG, "f:5", "energy", None, ()), m.Site(SiteKind.RESULT, shape=())

NUMBERS = {
    "Normal": (NORMAL, (1.0, 2.0)),
    "Uniform": (("Uniform", (), ()), (-1.0, 3.0)),
    "Categorical": (("Categorical", (3,)), (0.2, 0.3, 0.5)),
    "Poisson": (("Poisson", ()), (3.5,)),
    "Bernoulli": (("Bernoulli", ()), (0.3,)),
    "Beta": (("Beta", (), ()), (0.5, 2.0)),
    "Exponential": (("Exponential", ()), (2.0,)),
    "Gamma": (("Gamma", (), ()), (3.0, 2.0)),
    "LogNormal": (("LogNormal", (), ()), (0.0, 1.0)),
    "Binomial": (("Binomial", (), ()), (10.0, 0.7)),
    "Weibull": (("Weibull", (), ()), (2.0, 1.5)),
    "TruncatedNormal": (("TruncatedNormal", (), (), (), ()), (0.0, 1.0, 1.0, 3.0)),
    "VonMises": (("VonMises", (), ()), (1.0, 2.0)),
    "Mixture": (
        ("Mixture", (2,), (NORMAL, ("Mixture", (2,), (NORMAL, ("Uniform", (), ()))))),
        (0.25, 0.75, 0.0, 1.0, 0.5, 0.5, 5.0, 1.0, -1.0, 1.0),
    ),
    "MultivariateNormal": (("MultivariateNormal", (2,), (2, 2)), (0.0, 1.0, 1.0, 0.0, 0.5, 2.0)),
    "Delta": (("Delta", ()), (4.0,)),
    "NegativeBinomial": (("NegativeBinomial", (), ()), (3.0, 0.4)),
    "NegativeBinomial2": (("NegativeBinomial2", (), ()), (4.0, 0.5)),
    "BetaBinomial": (("BetaBinomial", (), (), ()), (2.0, 3.0, 10.0)),
    "Geometric": (("Geometric", ()), (0.25,)),
    "Hypergeometric": (("Hypergeometric", (), (), ()), (20.0, 8.0, 6.0)),
    "ZeroInflatedPoisson": (("ZeroInflatedPoisson", (), ()), (0.25, 3.0)),
    "StudentT": (("StudentT", (), (), ()), (3.0, 1.0, 2.0)),
    "Cauchy": (("Cauchy", (), ()), (1.0, 2.0)),
    "HalfCauchy": (("HalfCauchy", ()), (2.0,)),
    "HalfNormal": (("HalfNormal", ()), (2.0,)),
    "Laplace": (("Laplace", (), ()), (1.0, 2.0)),
    "Logistic": (("Logistic", (), ()), (1.0, 2.0)),
    "Gumbel": (("Gumbel", (), ()), (1.0, 2.0)),
    "InverseGamma": (("InverseGamma", (), ()), (3.0, 2.0)),
    "Pareto": (("Pareto", (), ()), (1.0, 2.5)),
}


class Golden(NamedTuple):
    """A message file. ``style``: official code writes it in this style; None: our encoder does."""

    name: str
    message: Any
    note: str
    style: official.Style | None = None


def plain() -> list[Golden]:
    """Messages of PPX 1.0.0."""
    brackets, absent = official.Style(scalar=(1,)), official.Style(scalar=None, flat=(), strings=False)
    identified = official.Style(identifier=True)
    sample = m.Sample("[forward()+0xd4]", "mu", NORMAL, (1.0, 2.23606797749979))
    grid = m.Sample("[forward()+0x1a0]", "grid", ("Normal", (2, 3), ()), (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.5), False)
    vector = m.SampleResult((3,), (0.25, -1.5, 1e300))
    observe = m.Observe("[forward()+0x200]", "obs0", NORMAL, (0.5, 1.5), (), (8.0,))
    return [
        Golden("handshake", m.Handshake("pyprob 1.0.0"), "a 1.0.0 inference side"),
        Golden("handshake_result", m.HandshakeResult("pyprob_cpp 1.0.0", "gum"), "a 1.0.0 front end"),
        Golden("run", m.Run(), ""),
        Golden("run_identifier", m.Run(), "with the file identifier PPXF", identified),
        Golden("run_result", m.RunResult((), (7.25,)), ""),
        Golden("run_result_none", m.RunResult(), "the model returned nothing"),
        Golden("sample", sample, "scalars of shape []"),
        Golden("sample_brackets", sample, "the same, scalars of shape [1]", brackets),
        Golden("sample_absent", sample._replace(name=""), "shapes and the empty name are absent", absent),
        Golden("sample_identifier", sample, "with the file identifier PPXF", identified),
        Golden("sample_array", grid, "a parameter of shape [2, 3], control = false"),
        Golden("sample_long_address", sample._replace(address=LONG_ADDRESS), "an address of about 2 kB"),
        Golden("sample_result", m.SampleResult((), (0.7,)), "PROTOCOL.md, section 15, byte by byte"),
        Golden("sample_result_brackets", m.SampleResult((), (0.7,)), "shape [1]", brackets),
        Golden("sample_result_vector", vector, ""),
        Golden(
            "sample_result_flat", vector, "shape [] with three elements: a vector of three", official.Style(flat=())
        ),
        Golden("observe", observe, "the program gives the value"),
        Golden("observe_ask", observe._replace(shape=None, value=()), "the inference side has the value"),
        Golden("observe_only", m.Observe("f:9", "spectrum", None, (), (2,), (3.0, 4.0)), "a value, no likelihood"),
        Golden("observe_result", m.ObserveResult(), ""),
        Golden("tag", m.Tag("[forward()+0x280]", "energy", (2, 2), (1.0, 2.0, 3.0, 4.0)), ""),
        Golden("tag_result", m.TagResult(), ""),
        Golden("reset", m.Reset(), ""),
    ]


def families() -> list[Golden]:
    """A Sample of every family."""
    return [
        Golden(f"family_{number:02}_{name}", m.Sample(f"f:{number}", "x", *NUMBERS[name]), "")
        for number, name in enumerate(FAMILIES, 1)
    ]


def extension() -> list[Golden]:
    """Messages of the extension."""
    memory = m.SharedMemory(4242, 7, 4096 + 2 * (64 << 20), 0x0123456789ABCDEF)
    agreed = 15  # all but the shared memory and the families that came later
    part = m.Traces((MU,))
    first = m.Sample(site=1, numbers=(1.0, 2.236), traces=part)
    rest = m.Traces((OBS, ENERGY, RESULT), ((2, 3, 4),), (0,), (0.7, 1.414, 0.49, 0.7))
    observations = (m.Observation("obs0", (), (8.0,)), m.Observation("spectrum", (3,), (1.0, 2.0, 3.0)))
    policy = m.Policy(bytes([0b00001000, 0]), True, observations)
    settled = OBS._replace(shape=())
    failed = m.Error(ErrorCode.MODEL, "std::out_of_range: vector::at", "f:3", 1)
    batch = m.Traces(
        (MU, settled, RESULT), ((1, 2, 3), (1, 3)), (0, 1), (0.5, 1.0, 2.0, 0.7, 0.5, 1.5, 0.25, 0.25, 1.0, 2.0, 0.25),
        (failed,),
    )  # fmt: skip
    scopes = m.Traces(
        (
            m.Site(SiteKind.SCOPE_BEGIN, "f:6", "loop"), m.Site(SiteKind.SAMPLE, "f:7", "", ("Uniform", (), ()), ()),
            m.Site(SiteKind.SCOPE_REJECT, "f:6", "loop"), m.Site(SiteKind.SCOPE_END, "f:6", "loop", None, ()),
            m.Site(SiteKind.FACTOR, "f:8", "", None, ()), m.Site(SiteKind.RESULT),
            m.Site(SiteKind.SAMPLE, "f:9", "m", NUMBERS["Mixture"][0], (), False),
        ),
        ((3, 2, 4, 5, 6),), (0,), (0.125, -1.0, 1.0, 2.0, -3.5),
    )  # fmt: skip
    return [
        Golden("x_handshake", m.Handshake("ppl_jax", 2, 31, memory), "with a mailbox"),
        Golden("x_handshake_result", m.HandshakeResult("ppx", "tau", 2, agreed, "a41f"), "no shared memory"),
        Golden("x_error", m.Error(ErrorCode.MODEL, "std::out_of_range: Ω", "f:3"), ""),
        Golden("x_error_aborted", m.Error(ErrorCode.ABORTED, "not needed", ""), ""),
        Golden("x_sample_site", first, "defines site 1"),
        Golden("x_sample_known", m.Sample(site=1, numbers=(1.0, 2.0), position=3), "section 15, byte by byte"),
        Golden("x_sample_result", m.SampleResult((), (0.7,), 4), "with a position"),
        Golden("x_run_result_part", m.RunResult(traces=rest), "the end of an execution without draws"),
        Golden("x_run_result_scopes", m.RunResult(traces=scopes), "a rejected pass that was asked for; a factor"),
        Golden("x_run_draws", m.Run(m.Draws(7, 0, 1000, 0, m.Policy())), "a local prior of 1000 executions"),
        Golden("x_run_policy", m.Run(m.Draws(2**64 - 1, 2**63, 1, 2**40, policy)), "asks for site 3 and new ones"),
        Golden(
            "x_run_replay",
            m.Run(m.Draws(7, 812, 1, 2, None, m.Replay((1, 2, 2, 2), (1, 1, 2, 3), (0.5, 1.0, 2.0, 3.0)))),
            "the last policy holds",
        ),
        Golden("x_run_result_batch", m.RunResult(traces=batch, position=2), "two executions, and one that failed"),
    ]


def malformed() -> dict[str, tuple[bytes, str, str]]:
    """Name -> bytes, what they are refused as, and why."""
    good = ppx.encode(m.SampleResult((3,), (1.0, 2.0, 3.0)))
    body = bytearray(ppx.encode(m.Run()))
    body[body.index(3, 16)] = 99
    shifted = bytearray(good)
    shifted[0:4] = (len(good) + 40).to_bytes(4, "little")
    count = good.index((3).to_bytes(4, "little") + b"\0\0\0\0\0\0\xf0\x3f")
    long = bytearray(good)
    long[count : count + 4] = (2**31 - 1).to_bytes(4, "little")
    fewer = bytearray(good)
    fewer[count : count + 4] = (2).to_bytes(4, "little")
    text = bytearray(ppx.encode(m.Tag("abc", "", (), (1.0,))))
    text[text.index(b"abc")] = 0xFF
    missing = official.make("generated", "Normal", mean=official.Writer(official.Style()).tensor((), [0.0]))
    parameter = official.make("generated", "Sample", address="a", distribution_type=1, distribution=missing)
    return {
        "bad_empty": (b"", "Malformed", "no bytes at all"),
        "bad_zeros": (bytes(64), "Malformed", "the root points to itself"),
        "bad_root": (bytes(shifted), "Malformed", "the root lies outside"),
        "bad_cut": (good[:-4], "Malformed", "the last bytes are missing"),
        "bad_count": (bytes(long), "Malformed", "a vector is longer than the message"),
        "bad_shape": (bytes(fewer), "Malformed", "shape [3] with two elements"),
        "bad_text": (bytes(text), "Malformed", "an address that is not UTF-8"),
        "bad_parameter": (official.pack("generated", parameter), "Malformed", "a Normal without stddev"),
        "bad_member": (bytes(body), "Unsupported", "member 99 of the union of messages"),
    }


# -- draws ------------------------------------------------------------------------------------------------------------

EXTREMES = [
    dist.Normal(0.0, 1e-300), dist.Categorical([0.0, 1.0, 0.0]), dist.Categorical([3.0, 1.0]), dist.Poisson(0.0),
    dist.Poisson(9.99), dist.Poisson(10.0), dist.Poisson(30.0), dist.Poisson(1e6), dist.Bernoulli(0.0),
    dist.Bernoulli(1.0), dist.Beta(0.5, 0.5), dist.Beta(0.5, 2.0), dist.Beta(1e-3, 1e-3), dist.Beta(20.0, 3.0),
    dist.Gamma(0.5, 2.0), dist.Gamma(1e-3, 1.0), dist.Gamma(1.0, 1.0), dist.Gamma(1e5, 1e-3),
    dist.LogNormal(700.0, 50.0), dist.Binomial(0.0, 0.5), dist.Binomial(10.0, 0.0), dist.Binomial(10.0, 1.0),
    dist.Binomial(100.0, 0.4), dist.Binomial(100.0, 0.6), dist.Binomial(1e9, 0.01), dist.Weibull(1.0, 0.01),
    dist.TruncatedNormal(0.0, 1.0, 1.0, 2.0), dist.TruncatedNormal(0.0, 1.0, -2.0, -1.0),
    dist.TruncatedNormal(0.0, 1.0, 9.0, 12.0), dist.TruncatedNormal(0.0, 1.0, -math.inf, -9.0),
    dist.TruncatedNormal(0.0, 1.0, -math.inf, math.inf), dist.TruncatedNormal(5.0, 2.0, 6.0, math.inf),
    dist.VonMises(1.0, 1e-3), dist.VonMises(-3.0, 2.0), dist.VonMises(10.0, 1e6), dist.Delta(4.0),
    dist.Normal([0.0, 10.0, 20.0], 1.0), dist.Gamma([[0.5], [3.0]], [1.0, 2.0]),
    dist.Mixture([0.3, 0.7], [dist.Normal(0.0, 1.0), dist.Normal(5.0, 1.0)]),
    dist.Mixture([1.0, 1.0], [dist.Poisson(3.0), dist.Mixture([0.5, 0.5], [dist.Bernoulli(0.5), dist.Poisson(50.0)])]),
    dist.Categorical([[0.1, 0.9], [0.9, 0.1]]),
    dist.MultivariateNormal([0.0, 1.0, 2.0], [[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [-0.25, 0.125, 3.0]]),
    dist.NegativeBinomial2(1e6, 0.1), dist.NegativeBinomial(0.01, 0.999), dist.BetaBinomial(0.1, 0.2, 1e6),
    dist.Geometric(1.0), dist.Geometric(1e-9), dist.Hypergeometric(2.0**31, 2.0**30, 2.0**20),
    dist.Hypergeometric(10.0, 10.0, 4.0), dist.ZeroInflatedPoisson(0.0, 50.0), dist.StudentT(0.1, 0.0, 1.0),
    dist.StudentT([1.0, 30.0], 0.0, [[1.0], [2.0]]), dist.InverseGamma(1e-3, 1.0), dist.Pareto(1.0, 1e-3),
]  # fmt: skip

SEED, INDEX, EACH = 42, 7, 6


class Counting:
    """A stream that counts."""

    def __init__(self, seed: int, index: int):
        self.next = Stream(seed, index).random
        self.position = 0

    def random(self) -> float:
        self.position += 1
        return self.next()


def hexadecimal(number: float) -> str:
    """A double as C99 and printf("%a") write it."""
    return float(number).hex()


def draws() -> dict[str, Any]:
    """Uniforms of streams, and draws of every sampler from stream (SEED, INDEX)."""
    from ppl_jax.distributions.layouts import rebuild

    streams = []
    for seed, index in [
        (0, 0),
        (1, 2),
        (0x0123456789ABCDEF, 0xFEDCBA9876543210),
        (2**64 - 1, 2**64 - 1),
        (SEED, INDEX),
    ]:
        rng = Stream(seed, index)
        uniforms = [hexadecimal(rng.random()) for _ in range(40)]
        streams.append({"seed": str(seed), "index": str(index), "uniforms": uniforms})
    samplers = []
    for distribution in [*(rebuild(*NUMBERS[name]) for name in FAMILIES), *EXTREMES]:
        counted, values = Counting(SEED, INDEX), []
        for _ in range(EACH):
            value = distribution.sample(counted)
            flat = value.ravel().tolist() if hasattr(value, "ravel") else [value]
            values.append([hexadecimal(number) for number in flat])
        numbers = [hexadecimal(number) for number in distribution.numbers()]
        family = {"layout": distribution.layout(), "numbers": numbers, "shape": list(distribution.shape)}
        samplers.append({**family, "draws": values, "position": counted.position})
    return {"streams": streams, "seed": str(SEED), "index": str(INDEX), "samplers": samplers}


ABOUT_DRAWS = (
    "Doubles are C99 hexadecimal, integers of 64 bits decimal strings. streams: the first uniforms of (seed, index). "
    "samplers: successive draws from the stream (seed, index) given here, each flat and row-major; layout: the family "
    "and the shapes of its parameters (for a mixture, its components' layouts); numbers: the parameters, one after "
    "the other; position: how many uniforms all draws together take."
)
ABOUT_MESSAGES = (
    "messages: what each file means, with the names of the schema; null is absence, integers of 64 bits are strings, a "
    "scalar has shape [] whatever its bytes say. malformed: files that must be refused, and as what."
)


def main() -> None:
    """Writes all files."""
    with tempfile.TemporaryDirectory() as folder:
        official.generate(official.SCHEMA, "generated", Path(folder))
        for old in HERE.glob("*.bin"):
            old.unlink()
        entries, bad = [], []
        for golden in [*plain(), *families(), *extension()]:
            style = golden.style
            data = ppx.encode(golden.message) if style is None else official.to_official(golden.message, style)
            (HERE / f"{golden.name}.bin").write_bytes(data)
            entries.append({"file": f"{golden.name}.bin", "note": golden.note, "message": meaning(golden.message)})
        for name, (data, code, note) in malformed().items():
            (HERE / f"{name}.bin").write_bytes(data)
            bad.append({"file": f"{name}.bin", "note": note, "error": code})
        write("messages.json", {"about": ABOUT_MESSAGES, "messages": entries, "malformed": bad})
        write("draws.json", {"about": ABOUT_DRAWS, **draws()})


def write(name: str, found: Any) -> None:
    """JSON with a line for each entry of a list at the top."""
    parts = []
    for key, value in found.items():
        if isinstance(value, list):
            lines = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in value)
            parts.append(f"{json.dumps(key)}: [\n{lines}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    (HERE / name).write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()

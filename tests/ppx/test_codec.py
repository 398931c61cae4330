"""The codec says and understands the same as the official FlatBuffers code, for every kind of message."""

from __future__ import annotations

import math

import flatbuffers
import numpy as np
import official
import pytest
import wire_messages as wire
from hypothesis import given, settings
from hypothesis import strategies as st

import ppx
from ppx import messages as m

styles = st.builds(
    official.Style, st.sampled_from([(), (1,), None]), st.sampled_from([None, ()]), st.booleans(), st.booleans()
)


@pytest.fixture(scope="module", autouse=True)
def _generated(tmp_path_factory):
    official.generate(official.SCHEMA, "generated", tmp_path_factory.mktemp("generated"))


@pytest.mark.parametrize("kind", wire.MESSAGES)
@settings(max_examples=60)
@given(data=st.data())
def test_official_code_reads_what_we_write(kind, data):
    message = data.draw(wire.MESSAGES[kind])
    assert wire.same(official.from_official(ppx.encode(message)), message)


@pytest.mark.parametrize("kind", wire.MESSAGES)
@settings(max_examples=60)
@given(data=st.data(), style=styles)
def test_we_read_what_official_code_writes(kind, data, style):
    message = data.draw(wire.MESSAGES[kind])
    assert wire.same(ppx.decode(official.to_official(message, style)), message)


@settings(max_examples=200)
@given(messages=st.lists(wire.messages, min_size=1, max_size=6), style=styles)
def test_remembered_forms_mean_the_same(messages, style):
    """One decoder and one encoder for messages that come again and again with other numbers."""
    decoder, encoder = ppx.Decoder(), ppx.Encoder()
    for shift in (1.0, 2.5, -7.0, 1e300):
        for message in messages:
            message = wire.renumbered(message, shift)
            assert wire.same(official.from_official(encoder(message)), message)
            assert wire.same(decoder(official.to_official(message, style)), message)
            assert wire.same(decoder(memoryview(ppx.encode(message))), message)


def test_a_full_memory_of_forms_begins_anew():
    decoder, encoder = ppx.Decoder(max_forms=5), ppx.Encoder(max_forms=5)
    for turn in range(3):
        for k in range(12):
            message = m.Sample("a" * k, "", ("Normal", (), ()), (float(k), 1.0 + turn))
            assert decoder(encoder(message)) == message


def test_every_bit_of_a_number_arrives():
    special = (math.inf, -math.inf, math.nan, -0.0, 5e-324, 1.7976931348623157e308, 0.1)
    for encode, decode in ((ppx.encode, ppx.decode), (ppx.Encoder(), ppx.Decoder())):
        for _ in range(2):
            found = decode(encode(m.Tag("a", "b", (7,), special)))
            assert np.array(found.value).tobytes() == np.array(special).tobytes()


def test_numbers_beside_a_large_message_are_not_copied_from_a_shared_buffer():
    """What decoding gives does not change when the buffer is used for the next message."""
    rows = np.arange(1000.0)
    traces = m.Traces((), ((1,),), np.zeros(500, np.uint32), rows)
    buffer = bytearray(ppx.encode(m.RunResult(traces=traces)))
    found = ppx.Decoder()(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert wire.same(found.traces, traces)


def test_large_executions_come_as_arrays():
    found = ppx.decode(ppx.encode(m.RunResult(traces=m.Traces((), ((1,),), (0,) * 100, (1.0,) * 100)))).traces
    assert isinstance(found.types, np.ndarray)
    assert isinstance(found.rows, np.ndarray)


# -- what senders must write ------------------------------------------------------------------------------------------


def test_senders_write_what_readers_of_1_0_0_need():
    """Those fail on absent strings and vectors, so empty ones are written; no value is data [] and shape [0]."""
    for message, names in (
        (m.Handshake(), ("systemName",)),
        (m.HandshakeResult(), ("systemName", "modelName")),
        (m.Sample(layout=("Normal", (), ()), numbers=(0.0, 1.0)), ("address", "name")),
        (m.Observe(layout=("Normal", (), ()), numbers=(0.0, 1.0)), ("address", "name")),
        (m.Tag(), ("address", "name")),
    ):
        for data in (ppx.encode(message), ppx.Encoder()(message)):
            body = official.unpack("generated", data)
            assert [getattr(body, name) for name in names] == [b""] * len(names)
    result = official.unpack("generated", ppx.encode(m.SampleResult((), (1.0,)))).result
    assert (list(result.data), list(result.shape)) == ([1.0], [])
    result = official.unpack("generated", ppx.encode(m.SampleResult(None, ()))).result
    assert (list(result.data), list(result.shape)) == ([], [0])
    assert official.unpack("generated", ppx.encode(m.Observe(layout=("Delta", ()), numbers=(1.0,)))).value is None


def test_the_identifier_is_not_sent():
    for message in (m.Run(), m.SampleResult((), (1.0,)), m.Handshake("x")):
        assert ppx.encode(message)[4:8] != b"PPXF"


def test_strings_are_utf_8_of_bounded_length():
    text = "Ω" * 32_767
    assert ppx.decode(ppx.encode(m.Tag(text, "", (), (1.0,)))).address == text
    with pytest.raises(ppx.TooLarge, match=r"65536 bytes.*65535"):
        ppx.encode(m.Tag(text + "ΩΩ"[:1], "", (), (1.0,)))


def test_messages_are_of_bounded_length():
    with pytest.raises(ppx.TooLarge, match="67108864"):
        ppx.encode(m.Tag("a", "", (2**23,), np.zeros(2**23)))


# -- what receivers refuse --------------------------------------------------------------------------------------------


def official_message(kind, /, **fields):
    return official.pack("generated", official.make("generated", kind, **fields))


def tensor(data, shape):
    return official.make("generated", "Tensor", data=data, shape=shape)


def normal(mean, stddev):
    return {"distribution_type": 1, "distribution": official.make("generated", "Normal", mean=mean, stddev=stddev)}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: b"", "outside"),
        (lambda: b"\0" * 7, "outside"),
        (lambda: b"\0" * 64, "outside"),
        (lambda: official_message("SampleResult", result=tensor([1.0, 2.0], [3])), "shape .3,. has 2 elements"),
        (lambda: official_message("SampleResult", result=tensor([1.0], [-1, -1])), "no shape"),
        (lambda: official_message("SampleResult", result=tensor([1.0], [1] * 17)), "no shape"),
        (lambda: official_message("SampleResult", result=tensor([1.0], [2**16, 2**16])), "no shape"),
        (lambda: official_message("Sample", address="a"), "neither"),
        (lambda: official_message("Sample", **normal(tensor([0.0], []), None)), "'stddev' is missing"),
        (lambda: official_message("Sample", **normal(tensor([0.0], []), tensor([], [0]))), "'stddev' has no value"),
        (lambda: official_message("Run", draws=_draws(replay=([1], [1, 2], []))), "1 sites has 2 instances"),
        (lambda: official_message("RunResult", traces=_traces(type_lengths=[2], type_sites=[1])), "2 sites together"),
        (lambda: official_message("RunResult", traces=_traces(types=[0])), "of type 0, but there are 0"),
        (lambda: official_message("RunResult", traces=_traces(errors=[_error(1)])), "cannot be those that failed"),
        (lambda: official_message("RunResult", traces=_traces(errors=[_error(0)] * 2)), "cannot be those that failed"),
        (lambda: official_message("RunResult", traces=_traces(sites=[_site(kind=8)])), "no kind of site"),
        (lambda: official_message("RunResult", traces=_traces(sites=[_site(kind=0, value_shape=[])])), "SAMPLE cannot"),
        (lambda: official_message("RunResult", traces=_traces(sites=[_site(kind=1)])), "OBSERVE cannot"),
        (lambda: official_message("RunResult", traces=_traces(sites=[_site(kind=2)])), "TAG cannot"),
        (
            lambda: official_message("RunResult", traces=_traces(sites=[_site(kind=3, value_shape=[2])])),
            "FACTOR",
        ),
        (lambda: official_message("RunResult", traces=_traces(sites=[_site(kind=5, value_shape=[])])), "BEGIN"),
        (lambda: official_message("Sample", **_mixture([0.5, 0.5], 1)), "1 components with probs of shape .2,."),
        (lambda: official_message("Sample", **_mixture([1.0], 0)), "0 components"),
        (lambda: official_message("Sample", **_nested(9)), "9 levels"),
        (lambda: official_message("Sample", **_nested(200)), "nested too deep"),
    ],
)
def test_what_contradicts_itself_is_malformed(make, text):
    data = make()
    for decode in (ppx.decode, ppx.Decoder()):
        with pytest.raises(ppx.MalformedMessage, match=text) as caught:
            decode(data)
        assert caught.value.code == ppx.ErrorCode.MALFORMED


def test_mixtures_of_eight_levels_pass():
    message = ppx.decode(official_message("Sample", **_nested(8)))
    assert len(message.numbers) == 8 + 2


def test_unknown_members_are_unsupported():
    kind = bytearray(ppx.encode(m.Run()))
    kind[kind.index(3, 16)] = 13
    with pytest.raises(ppx.UnsupportedMessage, match=r"unknown kind of message \(member 13"):
        ppx.decode(bytes(kind))
    body = official.make("generated", "Sample", **normal(tensor([0.0], []), tensor([1.0], [])))
    body.distributionType = 32
    with pytest.raises(ppx.UnsupportedMessage, match=r"unknown kind of distribution \(member 32"):
        ppx.decode(official.pack("generated", body))


def test_unknown_fields_are_ignored():
    """What a later version appends to tables; and an unknown error code is no reason to lose the text."""
    later = official_message("Error", code=99, text="from the future")
    assert ppx.decode(later) == m.Error(ppx.ErrorCode.UNKNOWN, "from the future")


def test_a_number_that_is_also_structure_does_not_fool_the_decoder():
    """A Tag whose value and address share bytes: one double is a vector of length 1, and its first byte a text."""
    builder = flatbuffers.Builder(0)
    builder.StartVector(8, 1, 8)
    builder.PrependFloat64(1.0)
    shared = builder.EndVector()
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, shared, 0)
    value = builder.EndObject()
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(0, shared, 0)
    builder.PrependUOffsetTRelativeSlot(2, value, 0)
    data = _finish(builder, builder.EndObject(), 9)

    double = data.index(np.float64(1.0).tobytes())
    decoder = ppx.Decoder()
    for first in b"abca":
        data[double] = first
        assert decoder(bytes(data)) == ppx.decode(bytes(data))
        assert decoder(bytes(data)).address == chr(first)


def test_tables_that_refer_to_themselves_many_times_end():
    """Vectors of tables that all are the same table, in many levels: exponentially many visits, but for the budget."""
    with pytest.raises(ppx.MalformedMessage, match="own parts too often"):
        ppx.decode(_bomb())


# -- parts of messages ------------------------------------------------------------------------------------------------


def _draws(replay):
    names = ("sites", "instances", "values")
    table = official.make("generated", "Replay", **dict(zip(names, replay, strict=True)))
    return official.make("generated", "Draws", replay=table)


def _traces(**fields):
    return official.make("generated", "Traces", **fields)


def _error(execution):
    return official.make("generated", "Error", execution=execution)


def _site(**fields):
    return official.make("generated", "Site", **fields)


def _mixture(probs, components):
    parts = [official.make("generated", "Component", **normal(tensor([0.0], []), tensor([1.0], [])))] * components
    table = official.make("generated", "Mixture", probs=tensor(probs, [len(probs)]), components=parts)
    return {"distribution_type": 14, "distribution": table}


def _nested(depth):
    inner = normal(tensor([0.0], []), tensor([1.0], []))
    for _ in range(depth):
        component = official.make("generated", "Component", **inner)
        table = official.make("generated", "Mixture", probs=tensor([1.0], [1]), components=[component])
        inner = {"distribution_type": 14, "distribution": table}
    return inner


def _bomb():
    """A Sample of nested Mixtures, each with forty references to the one next mixture."""
    builder = flatbuffers.Builder(0)
    one = tensor([1.0], [])
    inner, family = official.make("generated", "Normal", mean=one, stddev=one).Pack(builder), 1
    for _ in range(8):
        builder.StartObject(2)
        builder.PrependUint8Slot(0, family, 0)
        builder.PrependUOffsetTRelativeSlot(1, inner, 0)
        component = builder.EndObject()
        builder.StartVector(4, 40, 4)
        for _ in range(40):
            builder.PrependUOffsetTRelative(component)
        components = builder.EndVector()
        probs = tensor([1.0] * 40, [40]).Pack(builder)
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, probs, 0)
        builder.PrependUOffsetTRelativeSlot(1, components, 0)
        inner, family = builder.EndObject(), 14
    builder.StartObject(4)
    builder.PrependUint8Slot(2, family, 0)
    builder.PrependUOffsetTRelativeSlot(3, inner, 0)
    return bytes(_finish(builder, builder.EndObject(), 5))


def _finish(builder, body, number):
    """The bytes of a message with the body that the builder has at ``body``."""
    builder.StartObject(2)
    builder.PrependUint8Slot(0, number, 0)
    builder.PrependUOffsetTRelativeSlot(1, body, 0)
    builder.Finish(builder.EndObject())
    return builder.Output()

"""The Python front end against an inference side, in every mode: same seed, same traces, whichever side draws."""

from __future__ import annotations

import numpy as np
import pytest
import simulators
from inference import MODES, Recording, connected, execute, expected, local_prior, numbers_of, prior
from programs import left_by_an_exception
from simulators import front_end, simulator

import ppl_jax as ppl
import ppl_jax.distributions as dist
import ppx
from ppx import messages as m
from ppx.constants import SiteKind
from ppx.positions import PositionedStream

MODELS = ["gum", "branching", "hidden_markov", "recursion", "plate", "everything"]
SEED = 3


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


def model_for(name, mode):
    """``everything`` with what the extension has, where it is spoken."""
    return (
        simulators.extended if name == "everything" and mode not in ("1.0.0", "errors") else getattr(simulators, name)
    )


# -- same seed, same traces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_inference_side_draws(name, mode):
    """Every draw is asked for and comes from stream (seed, i): the traces are those of a local run, bit for bit."""
    model = model_for(name, mode)
    with front_end(model) as served, connected(served.endpoint, MODES[mode]) as mine:
        assert mine.active == MODES[mode]
        for index, trace in enumerate(prior(model, SEED, 20)):
            found = execute(mine, rng=PositionedStream(SEED, index))
            assert found.visits == expected(trace)
            assert found.result == numbers_of(trace.result)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("transport", ["draws", "mailbox"])
def test_the_front_end_draws(name, transport):
    model = model_for(name, transport)
    with front_end(model) as served, connected(served.endpoint, MODES[transport]) as mine:
        found = local_prior(mine, SEED, 300)
        for recording, trace in zip(found, prior(model, SEED, 300), strict=True):
            assert recording.visits == expected(trace)
            assert recording.result == numbers_of(trace.result)


@pytest.mark.parametrize("name", MODELS)
def test_both_draw_in_turns(name):
    """Some sites are asked for, with the stream's position going to and fro: the traces are the same again."""
    model = model_for(name, "draws")
    with front_end(model) as served, connected(served.endpoint, MODES["draws"]) as mine:
        for bits in (0b01010101, 0b00110011, 0b11111111, 0):
            policy = m.Policy(bytes([bits] * 2), True)
            for index, trace in enumerate(prior(model, SEED, 10)):
                rng = PositionedStream(SEED, index)
                found = execute(mine, m.Run(m.Draws(SEED, index, policy=policy)), rng)
                assert found.visits == expected(trace)
                assert found.result == numbers_of(trace.result)
                assert found.last.position >= rng.position


def test_a_process_of_its_own(tmp_path):
    """Three lines: import, import, ``ppx.serve(model, endpoint)``; the same traces from there."""
    with simulator("gum", f"ipc://{tmp_path}/s") as peer, connected(peer.endpoint) as mine:
        assert mine.peer.model_name == "gum"
        assert mine.active == ppx.ALL_CAPABILITIES
        for recording, trace in zip(local_prior(mine, 5, 50), prior(simulators.gum, 5, 50), strict=True):
            assert recording.visits == expected(trace)


def test_first_execution_and_position_name_the_stream():
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        both = local_prior(mine, SEED, 10)
        later = local_prior(mine, SEED, 6, first=4)
        assert [r.visits for r in later] == [r.visits for r in both[4:]]
        for position in (1, 2, 17, 2**63 + 1):
            (moved,) = local_prior(mine, SEED, 1, position=position)
            rng = PositionedStream(SEED, 0, position)
            mu = dist.Normal(1.0, np.sqrt(5.0)).sample(rng)
            assert moved.visits[0].value == (mu,)
            assert moved.visits[1].value == (dist.Normal(mu, np.sqrt(2.0)).sample(rng),)


def test_the_last_streams_and_positions_wrap():
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        top = 2**64 - 1
        answer = mine.request(m.Run(m.Draws(top, top, 3, top, m.Policy())), 30.0)
        assert len(answer.traces.types) == 3
        assert answer.position == 2
        mine.sites.receive(answer.traces)
        (wrapped,) = local_prior(mine, top, 1, first=0, position=top)
        assert wrapped.visits[0].value == (answer.traces.rows[len(answer.traces.rows) // 3],)


def test_hundreds_of_thousands_of_executions_come_in_several_messages():
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        run = m.Run(m.Draws(SEED, 0, 2**32 - 1, 0, m.Policy()))
        answer = mine.request(run, 60.0)
        count = len(answer.traces.types)
        assert 5_000 < count < 30_000  # about 1 MiB of rows
        executions = mine.sites.receive(answer.traces)
        assert executions.starts[-1] == len(answer.traces.rows)
        answer = mine.request(m.Run(m.Draws(SEED, count, 1)), 60.0)
        (trace,) = prior(lambda: simulators.gum(), SEED, count + 1)[count:]
        np.testing.assert_array_equal(answer.traces.rows[0], trace["mu"])


# -- what is asked for ------------------------------------------------------------------------------------------------


def test_a_policy_asks_for_the_sites_it_names_only():
    with front_end(simulators.plate) as served, connected(served.endpoint) as mine:
        first = execute(mine, m.Run(m.Draws(SEED, 0, policy=m.Policy(b"", True))), PositionedStream(SEED, 0))
        assert len(first.questions) == 10
        px = next(n for n in range(1, len(mine.sites) + 1) if mine.sites[n].name == "px")
        assert sum(mine.sites[n].name == "px" for n in range(1, len(mine.sites) + 1)) == 1
        policy = m.Policy(bytes([0] * (px >> 3) + [1 << (px & 7)]), True)
        second = execute(mine, m.Run(m.Draws(SEED, 1, policy=policy)), PositionedStream(SEED, 1))
        assert [question.site for question in second.questions] == [px]
        third = execute(mine, m.Run(m.Draws(SEED, 2)), PositionedStream(SEED, 2))
        assert [question.site for question in third.questions] == [px]  # the policy holds
        for index, found in enumerate((first, second, third)):
            assert found.visits == expected(prior(simulators.plate, SEED, 3)[index])


def test_before_the_first_policy_nothing_is_asked_for():
    with front_end(simulators.plate) as served, connected(served.endpoint) as mine:
        assert execute(mine, m.Run(m.Draws(SEED, 0))).questions == []


def test_bits_without_a_site_mean_nothing():
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        assert execute(mine, m.Run(m.Draws(SEED, 0, policy=m.Policy(bytes([0] * 8 + [255]))))).questions == []


def test_answers_become_part_of_the_trace():
    """The value answered goes into the model, and is not sent back."""
    with front_end(simulators.gum) as served, connected(served.endpoint, MODES["sites"]) as mine:
        found = execute(mine, answer=lambda site, parameters: (7.5,))
        assert found.result == (7.5,)
        assert [visit.parameters[0] for visit in found.visits] == [1.0, 7.5, 7.5]
        assert len(found.last.traces.rows) == 2 * 2 + 1


def test_definitions_travel_once():
    with front_end(simulators.hidden_markov) as served, connected(served.endpoint, MODES["sites"]) as mine:
        execute(mine)
        defined = len(mine.sites)
        assert defined == len({(mine.sites[n].address, mine.sites[n].name) for n in range(1, defined + 1)})
        for _ in range(3):
            questions = execute(mine).questions
            assert all(question.traces is None or not question.traces.sites for question in questions)
        assert len(mine.sites) == defined


# -- observations -----------------------------------------------------------------------------------------------------


def observed_policy(**data):
    return m.Policy(b"", False, tuple(m.Observation(name, np.shape(x), numbers_of(x)) for name, x in data.items()))


def test_observations_win_over_drawing_and_over_the_programs_value():
    data = {"obs0": 8.0, "obs1": 9.0}
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        found = local_prior(mine, SEED, 20, policy=observed_policy(**data))
        for recording, trace in zip(found, prior(simulators.gum, SEED, 20, observations=data), strict=True):
            assert recording.visits == expected(trace)
    with front_end(simulators.everything) as served, connected(served.endpoint) as mine:
        (found,) = local_prior(mine, SEED, 1, policy=observed_policy(given=[5.0, 6.0], k=1.0))
        values = {visit.name: visit.value for visit in found.visits}
        assert values["given"] == (5.0, 6.0)
        assert values["k"] == (1.0,)
        assert sum(visit.name == "counts" for visit in found.visits) == 2  # the program saw k = 1


def test_observations_hold_until_the_next_policy():
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        local_prior(mine, SEED, 1, policy=observed_policy(obs0=8.0))
        (kept,) = local_prior(mine, SEED, 1, policy=None)
        assert kept.visits[1].value == (8.0,)
        (gone,) = local_prior(mine, SEED, 1, policy=m.Policy())
        assert gone.visits[1].value != (8.0,)
        mine.handshake(30.0)
        (gone,) = local_prior(mine, SEED, 1, policy=None)
        assert gone.visits[1].value != (8.0,)


def test_the_first_of_several_observations_counts_and_one_without_value_is_none():
    policy = m.Policy(b"", False, (
        m.Observation("obs0", None, ()), m.Observation("obs0", (), (1.0,)), m.Observation("obs0", (), (2.0,))
    ))  # fmt: skip
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        (found,) = local_prior(mine, SEED, 1, policy=policy)
        assert found.visits[1].value == (1.0,)


def test_an_observation_of_another_shape_is_reported_with_its_shape():
    """The receiver judges it; the trace says what was used."""
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        policy = m.Policy(b"", False, (m.Observation("obs0", (2,), (1.0, 2.0)),))
        answer = mine.request(m.Run(m.Draws(SEED, 0, policy=policy)), 30.0)
        (site,) = (site for site in answer.traces.sites if site.name == "obs0")
        assert site.shape == (2,)


def test_without_draws_observations_are_the_inference_sides():
    """In 1.0.0 and with sites an observe without a value has none; the model sees NaN, not a number."""
    seen = []

    def model():
        seen.append(ppl.observe(dist.Normal(0.0, 1.0), name="y"))
        seen.append(ppl.observe(dist.Normal(np.zeros(2), 1.0), [1.0, 2.0], name="z"))

    for mode in ("1.0.0", "sites"):
        with front_end(model) as served, connected(served.endpoint, MODES[mode]) as mine:
            execute(mine)
        assert np.isnan(seen[0])
        np.testing.assert_array_equal(seen[1], [1.0, 2.0])
        seen.clear()


# -- replay -----------------------------------------------------------------------------------------------------------


def replay_of(connection, visits, changes=()):
    """The values of a trace's samples, some of them changed, as a Replay."""
    numbers = {(site.address, site.layout, site.control): n for n, site in enumerate(_sites(connection), 1)}
    sites, instances, values = [], [], []
    for place, visit in enumerate(visits):
        if visit.kind == "sample":
            sites.append(numbers[visit.address, visit.family, visit.control])
            instances.append(visit.instance)
            values += dict(changes).get(place, visit.value)
    return m.Replay(tuple(sites), tuple(instances), tuple(values))


def _sites(connection):
    return [connection.sites[n] for n in range(1, len(connection.sites) + 1)]


@pytest.mark.parametrize("name", MODELS)
def test_a_replay_takes_the_values_without_asking_or_drawing(name):
    model = model_for(name, "draws")
    with front_end(model) as served, connected(served.endpoint) as mine:
        for index in range(5):
            (before,) = local_prior(mine, SEED, 1, first=index)
            replay = replay_of(mine, before.visits)
            after = execute(mine, m.Run(m.Draws(99, 0, policy=m.Policy(b"", True), replay=replay)))
            assert [v for v in after.visits if v.kind == "sample"] == [v for v in before.visits if v.kind == "sample"]
            assert after.questions == []
            assert after.result == before.result


def test_a_replay_with_one_value_changed_draws_what_is_new():
    """r decides whether there is a second draw; where it appears it comes from the stream."""
    with front_end(simulators.branching) as served, connected(served.endpoint) as mine:
        found = local_prior(mine, SEED, 30)
        long = next(r for r in found if len(r.visits) == 3)
        short = next(r for r in found if len(r.visits) == 2)
        kept = execute(mine, m.Run(m.Draws(1, 2, replay=replay_of(mine, long.visits, {0: (1.0,)}))))
        assert [v.value for v in kept.visits[:2]] == [(1.0,), long.visits[1].value]
        grown = execute(mine, m.Run(m.Draws(1, 2, replay=replay_of(mine, short.visits, {0: (1.0,)}))))
        assert grown.visits[1].value == (float(dist.Poisson(4.0).sample(PositionedStream(1, 2))),)
        shrunk = execute(mine, m.Run(m.Draws(1, 2, replay=replay_of(mine, long.visits, {0: (9.0,)}))))
        assert len(shrunk.visits) == 2


def test_a_replay_counts_for_one_run_only():
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        (first,) = local_prior(mine, SEED, 1)
        replay = replay_of(mine, first.visits, {0: (123.0,)})
        assert local_prior(mine, SEED, 1, replay=replay)[0].visits[0].value == (123.0,)
        assert local_prior(mine, SEED, 1)[0].visits == first.visits
        both = local_prior(mine, SEED, 2, replay=replay)
        assert [r.visits[0].value for r in both] == [(123.0,)] * 2


def test_a_value_fits_only_the_same_family_and_shape():
    families = iter(
        [dist.Normal(0.0, 1.0), dist.Uniform(0.0, 1.0), dist.Normal(np.zeros(2), 1.0), dist.Normal(5.0, 2.0)]
    )

    def model():
        return ppl.sample(next(families), address="here")

    with front_end(model) as served, connected(served.endpoint) as mine:
        local_prior(mine, SEED, 1)
        replay = m.Replay((1,), (1,), (77.0,))
        for fits in (False, False, True):
            (found,) = local_prior(mine, SEED, 1, replay=replay)
            assert (found.visits[0].value == (77.0,)) is fits


def test_instances_count_visits_of_the_address_by_statements_of_any_kind():
    def model():
        ppl.tag(1.0, address="here")
        return ppl.sample(dist.Normal(0.0, 1.0), address="here")

    with front_end(model) as served, connected(served.endpoint) as mine:
        local_prior(mine, SEED, 1)
        for instance, fits in ((1, False), (2, True)):
            (found,) = local_prior(mine, SEED, 1, replay=m.Replay((2,), (instance,), (77.0,)))
            assert (found.visits[1].value == (77.0,)) is fits


# -- rejection scopes -------------------------------------------------------------------------------------------------


def accepted(visits):
    """Of the local trace, in which every pass of `rejection` is kept, the last pass, counted anew."""
    passes = [k for k, visit in enumerate(visits) if visit.name == "u"]
    kept = [visits[0], *visits[passes[-1] :]]
    return [visit._replace(instance=1) for visit in kept], len(passes) - 1


@pytest.mark.parametrize("how", ["local", "asked", "mixed", "sites", "mailbox"])
def test_only_the_accepted_pass_is_in_the_trace(how):
    """Whether passes were asked for, and so sent before they were rejected, or never left the front end."""
    capabilities = MODES["sites" if how == "sites" else "mailbox" if how == "mailbox" else "draws"]
    policies = {"local": m.Policy(), "asked": m.Policy(b"", True), "mailbox": m.Policy(b"", True)}
    seen_rejections = 0
    with front_end(simulators.rejection) as served, connected(served.endpoint, capabilities) as mine:
        for index, trace in enumerate(prior(simulators.every_pass, SEED, 60)):
            rng = PositionedStream(SEED, index)
            policy = policies.get(how, m.Policy(b"\xff\xf7", True) if index % 2 else m.Policy(b"\0\0", True))
            run = m.Run() if how == "sites" else m.Run(m.Draws(SEED, index, policy=policy))
            found = execute(mine, run, rng)
            visits, rejections = accepted(expected(trace))
            assert found.visits == visits
            assert found.result == numbers_of(trace.result)
            seen_rejections += rejections
    assert seen_rejections > 5


def test_a_scopes_end_says_how_many_passes_were_rejected():
    with front_end(simulators.rejection) as served, connected(served.endpoint) as mine:
        for recording, trace in zip(local_prior(mine, SEED, 60), prior(simulators.every_pass, SEED, 60), strict=True):
            assert recording.rejected == [float(accepted(expected(trace))[1])]


@pytest.mark.parametrize("ask", [True, False])
def test_nested_scopes(ask):
    with front_end(simulators.nested_rejection) as served, connected(served.endpoint) as mine:
        for index, trace in enumerate(prior(simulators.nested_rejection, SEED, 60)):
            run = m.Run(m.Draws(SEED, index, policy=m.Policy(b"", ask)))
            found = execute(mine, run, PositionedStream(SEED, index))
            assert found.visits == expected(trace)
            assert [visit.instance for visit in found.visits] == [1, 1]
            assert found.result == numbers_of(trace.result)


def test_a_replay_is_not_used_after_a_rejection():
    """The replayed pass is outside the circle: the loop goes on with draws, and comes to an end."""
    with front_end(simulators.rejection) as served, connected(served.endpoint) as mine:
        (first,) = local_prior(mine, SEED, 1)
        u = next(place for place, visit in enumerate(first.visits) if visit.name == "u")
        changes = {0: (0.25,), u: (0.99,), u + 1: (0.99,)}
        (found,) = local_prior(mine, 1, 1, replay=replay_of(mine, first.visits, changes))
        assert found.visits[0].value == (0.25,)
        assert found.rejected[0] >= 1.0
        assert found.visits[u].value != (0.99,)


def test_a_scope_that_is_open_at_the_end_is_accepted_as_it_is():
    def model():
        with ppx.rejection_scope("s"):
            return ppl.sample(dist.Normal(0.0, 1.0))

    with front_end(model) as served, connected(served.endpoint) as mine:
        (found,) = local_prior(mine, SEED, 1)
        assert len(found.visits) == 1
        assert found.rejected == [0.0]


def test_a_scope_that_an_exception_leaves_is_closed_for_the_inference_side():
    with front_end(left_by_an_exception) as served, connected(served.endpoint) as mine:
        for policy in (m.Policy(), m.Policy(b"", True)):
            found = execute(mine, m.Run(m.Draws(SEED, 0, policy=policy)), PositionedStream(SEED, 0))
            assert [visit.name for visit in found.visits] == ["x2", "y"]


def test_a_scope_that_has_ended_rejects_nothing():
    def model():
        with ppx.rejection_scope("loop", address="here") as scope:
            ppl.sample(dist.Normal(0.0, 1.0))
        scope.reject()

    with front_end(model) as served, connected(served.endpoint) as mine:
        answer = mine.request(m.Run(m.Draws(SEED, 0)), 30.0)
        assert "'loop' at here was called after its with statement" in answer.traces.errors[0].text


@pytest.mark.parametrize("how", ["1.0.0", "errors"])
def test_without_sites_every_pass_is_in_the_trace(how):
    with front_end(simulators.rejection) as served, connected(served.endpoint, MODES[how]) as mine:
        for index, trace in enumerate(prior(simulators.every_pass, SEED, 10)):
            assert execute(mine, rng=PositionedStream(SEED, index)).visits == expected(trace)


def test_a_scope_outside_a_front_end_does_nothing():
    assert np.isfinite(simulators.rejection())
    assert np.isfinite(simulators.nested_rejection())


# -- the receiver's side of sites -------------------------------------------------------------------------------------


def test_a_site_table_refuses_what_does_not_fit():
    table = ppx.SiteTable()
    site = m.Site(SiteKind.SAMPLE, "a", "", ("Normal", (), ()), ())
    table.receive(m.Traces((site,)))
    assert table[1] == site
    for number in (0, 2):
        with pytest.raises(ppx.MalformedMessage, match=f"site {number} was never defined"):
            table[number]
    with pytest.raises(ppx.MalformedMessage, match="site 2 was never defined"):
        table.receive(m.Traces((), ((1, 2),), (0,), (0.0,) * 3))
    with pytest.raises(ppx.MalformedMessage, match="rows have 4 numbers, their sites 3"):
        table.receive(m.Traces((), ((1,),), (0,), (0.0,) * 4))
    wide = m.Site(SiteKind.TAG, "b", "", None, (2**15, 2**15))
    with pytest.raises(ppx.MalformedMessage, match="rows have 0 numbers, their sites"):
        table.receive(m.Traces((wide,) * 70, (tuple(range(2, 70)),), (0,) * 2**17, ()))


def test_a_site_table_takes_executions_of_several_types():
    table = ppx.SiteTable()
    sites = (m.Site(SiteKind.SAMPLE, "a", "", ("Normal", (), ()), ()), m.Site(SiteKind.RESULT, shape=()))
    rows = tuple(float(k) for k in range(3 + 4 + 3))
    found = table.receive(m.Traces(sites, ((1,), (1, 2)), (0, 1, 0), rows))
    assert found.types.tolist() == [0, 1, 0]
    assert found.starts.tolist() == [0, 3, 7, 10]
    assert [row_type.width for row_type in found.row_types] == [3, 4]
    assert table.receive(m.Traces()).starts.tolist() == [0]
    assert isinstance(Recording(None).visits, list)


def test_too_many_sites_are_refused():
    table = ppx.SiteTable()
    site = m.Site(SiteKind.TAG, "a", "", None, ())
    table.receive(m.Traces((site,) * (1 << 20)))
    with pytest.raises(ppx.TooLarge, match="more than 1048576 sites"):
        table.receive(m.Traces((site,)))

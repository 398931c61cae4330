"""The bridge to numpyro, both ways: our primitives under numpyro's handlers, numpyro's primitives under ours.

*Our model, numpyro's handlers.* With none of our handlers in force but some of numpyro's, :func:`forward` passes each
primitive on, so that ``numpyro.infer.NUTS(model)`` or ``numpyro.handlers.seed(model, 0)`` just work. An observe
without a value is a latent of numpyro's unless ``numpyro.handlers.condition`` supplies it.

*numpyro's model, our handlers.* :func:`from_numpyro` makes a numpyro model one of ours; engines do so by themselves
where :func:`adapt` recognises one. A site's address is its name, which numpyro keeps unique. Plates of full size,
``deterministic`` (a tag), ``factor``, and numpyro's ``condition``, ``substitute``, ``seed``, ``scope`` and ``reparam``
inside the model mean what they mean in numpyro; what a trace cannot express (scales, subsampling, parameters,
numpyro's own control flow) raises an error.

numpyro's stack of handlers is a global list, so executions of numpyro models exclude each other by a lock. Greenlets of
one thread may take turns at sites: what is on the list for one of them is taken off while its site is being settled.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from types import CodeType, FrameType, FunctionType
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Elementwise, is_tracer
from ppl_jax.distributions.factor import Factor
from ppl_jax.distributions.from_numpyro import from_numpyro as distribution_from_numpyro
from ppl_jax.errors import PPLError
from ppl_jax.language.handlers import Handler
from ppl_jax.language.site import FACTOR, OBSERVE, SAMPLE, TAG, Site, check_value
from ppl_jax.language.stack import frames, send
from ppl_jax.streams import Stream, check_seed

#: Guards numpyro's global stack while a numpyro model or sampler runs; the thread that holds it may take it again.
NUMPYRO_LOCK = threading.RLock()


# -- our primitives under numpyro's handlers ---------------------------------------------------------------------------


def forward(kind: str, distribution: Any, value: Any, name: str) -> Any:
    """Passes one of our primitives on to numpyro's of the same meaning.

    Args:
      kind: "sample", "observe", "factor" or "tag".
      distribution: ours; None for a tag.
      value: the observed or tagged value; None to leave it to numpyro.
      name: the site's name or address; met again under a numpyro ``trace``, it gets "_2", "_3", ... appended.

    Returns:
      What the primitive returns to the model: numpyro's value, a JAX array or tracer.
    """
    import jax.numpy as jnp
    import numpyro

    from ppl_jax.distributions.supports import has_moving_bounds, with_arrays

    name = _unused(name)
    if kind == FACTOR:
        numpyro.factor(name, distribution.log_factor)
        return None
    if kind == TAG:
        # Strings and the like mean nothing to numpyro, which batches whatever it records.
        return numpyro.deterministic(name, value) if _is_numeric(value) else value
    if value is not None:
        value = check_value(Site(kind, distribution, value, name, name, False, True), value)
        value = jnp.asarray(value, dtype=jnp.result_type(int if distribution.discrete else float))
    twin = distribution.to_numpyro()
    if value is None and has_moving_bounds(twin):
        # Shown as arrays and not as one event, or numpyro would take the bounds of one execution for those of all.
        twin = with_arrays(distribution).to_numpyro()
    else:
        twin = twin.to_event(len(twin.batch_shape))
    drawn = numpyro.sample(name, twin, obs=value)
    if kind == OBSERVE:
        _check_support(distribution, drawn, name)
    return drawn


def settle_in_numpyro(site: Site) -> None:
    """Passes on a site that our own handlers have seen, where numpyro's are in force outside of them.

    What they gave (data, a fixed value, a stream to draw from) numpyro is told; what they hid it only draws. Proposals
    are for engines of ours.
    """
    import numpyro

    if site.value is None and site.kind in (SAMPLE, OBSERVE) and (site.hidden or site.rng is not None):
        site.value = _drawn_here(site)
    if site.hidden:
        return
    name = site.name or site.address
    if site.kind != SAMPLE or site.observed or site.value is None:
        kind = OBSERVE if site.observed and site.kind == SAMPLE else site.kind
        site.value = forward(kind, site.distribution, site.value, name)
        return
    name = _unused(name)
    with numpyro.handlers.substitute(data={name: site.value}):
        forward(SAMPLE, site.distribution, None, name)


def _drawn_here(site: Site) -> Any:
    """A draw that numpyro is not asked for; None where nobody but the operating system has randomness."""
    import numpyro

    if site.rng is not None:
        return site.distribution.sample(site.rng)
    key = numpyro.prng_key()
    if key is None:
        return None
    from ppl_jax.distributions.device import draw

    return draw(site.distribution, key)


def entry(frame: FrameType | None) -> FrameType | None:
    """The frame from which numpyro, or else nobody, called the model: addresses count from there.

    numpyro runs a model from several places; an unnamed site must have the same name in all of them.
    """
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("numpyro."):
        frame = frame.f_back
    return frame


def _unused(name: str) -> str:
    """``name``, with the first of the suffixes "", "_2", "_3", ... that no numpyro trace in force has recorded."""
    from numpyro.handlers import trace
    from numpyro.primitives import _PYRO_STACK

    taken = [handler.trace for handler in _PYRO_STACK if isinstance(handler, trace)]
    candidate, occurrence = name, 1
    while any(candidate in trace for trace in taken):
        occurrence += 1
        candidate = f"{name}_{occurrence}"
    return candidate


def _is_numeric(value: Any) -> bool:
    import jax

    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(isinstance(leaf, (int, float, np.ndarray, np.generic, jax.Array)) for leaf in leaves)


def _check_support(distribution: Any, value: Any, name: str) -> None:
    """Forbids a datum outside bounds that depend on latents: numpyro's densities do not look at bounds."""
    import jax.numpy as jnp
    import numpyro

    from ppl_jax.distributions.device import inside_support

    inside = inside_support(distribution, value)
    if inside is True:  # no bounds
        return
    inside = jnp.all(inside)
    if is_tracer(inside) or not inside:
        numpyro.factor(_unused(f"{name}_support"), jnp.where(inside, 0.0, -jnp.inf))


# -- numpyro's models under our handlers -------------------------------------------------------------------------------


class NumpyroModel:
    """A numpyro model as one of ours; made by :func:`from_numpyro`. Called with no handler of ours, it is as it was."""

    __slots__ = ("model",)

    forkable = False  # it computes with JAX, whose threads a forked process lacks: it would wait for ever

    def __init__(self, model: Callable[..., Any]):
        self.model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from numpyro.primitives import _PYRO_STACK

        if next(frames(), None) is None and _PYRO_STACK:
            return self.model(*args, **kwargs)
        with NUMPYRO_LOCK:
            depth = len(_PYRO_STACK)
            _PYRO_STACK.append(Raiser(depth))
            try:
                return self.model(*args, **kwargs)
            finally:
                del _PYRO_STACK[depth:]

    def __repr__(self) -> str:
        return f"from_numpyro({self.model!r})"


def from_numpyro(model: Callable[..., Any]) -> NumpyroModel:
    """A model of ours from one written in numpyro's primitives.

    Args:
      model: a callable that calls ``numpyro.sample`` and so on, perhaps under handlers of numpyro.

    Returns:
      A model: engines condition on its sites by name, observed or not, and record ``deterministic`` as tags.
    """
    return model if isinstance(model, NumpyroModel) else NumpyroModel(model)


class Raiser:
    """Stands on numpyro's stack, outside the model's own handlers, and raises what reaches it as a site of ours.

    It has the two methods of numpyro's Messenger, which is not its base so that numpyro need not be imported here.
    """

    def __init__(self, depth: int):
        self.depth = depth

    def process_message(self, message: dict) -> None:
        """Settles a message of numpyro; handlers of numpyro further out do not see it."""
        kind = message["type"]
        message["stop"] = True
        if kind == "sample":
            self._sample(message)
        elif kind == "deterministic":
            self._send(Site(TAG, None, message["value"], message["name"], message["name"], False, False))
        elif kind == "plate":
            if message["value"] is None:
                raise _inexpressible("a plate that subsamples", message, "Use the whole plate.")
        elif kind not in ("inspect", "subsample"):
            raise _inexpressible(f"numpyro's '{kind}'", message, "Write the model without it.")

    def postprocess_message(self, message: dict) -> None:
        """Nothing is left to do."""

    def _sample(self, message: dict) -> None:
        import jax.numpy as jnp

        name, distribution, value = message["name"], message["fn"], message["value"]
        if message["scale"] is not None and (is_tracer(message["scale"]) or np.any(np.asarray(message["scale"]) != 1)):
            raise _inexpressible("a density with a scale", message, "Add a factor in its place.")
        if type(distribution).__name__ == "MaskedDistribution":
            mask = distribution._mask
            distribution = distribution.base_dist
            if is_tracer(mask) or not np.all(mask):
                self._observe_unmasked(message, distribution, mask)
                return
        if message["kwargs"].get("sample_shape"):
            distribution = distribution.expand_by(message["kwargs"]["sample_shape"])
        if _innermost(distribution) == "Unit":
            log_factor = jnp.sum(distribution.log_prob(value))
            self._send(Site(FACTOR, Factor(log_factor), None, name, name, False, True))
            return
        observed = message["is_observed"]
        ours = distribution_from_numpyro(distribution)
        site = Site(OBSERVE if observed else SAMPLE, ours, None, name, name, not observed, observed)
        if value is not None:
            site.value = check_value(site, jnp.broadcast_to(value, ours.shape) if observed else value)
        self._send(site)
        message["value"] = jnp.asarray(site.value, dtype=jnp.result_type(int if ours.discrete else float))

    def _observe_unmasked(self, message: dict, distribution: Any, mask: Any) -> None:
        """Observes the elements that are not masked, as one array; the others are neither weighed nor looked at."""
        name, value = message["name"], message["value"]
        if is_tracer(mask):
            raise _inexpressible("a mask that depends on random values", message, "Add a factor in its place.")
        if value is None or not message["is_observed"]:
            raise _inexpressible("a masked draw", message, "Mask what is observed only, with a value in the model.")
        shape = tuple(distribution.batch_shape)
        kept = np.broadcast_to(np.asarray(mask, dtype=bool), shape)
        ours = distribution_from_numpyro(distribution)
        if distribution.event_shape or not isinstance(ours, Elementwise):
            raise _inexpressible(f"a mask over {ours.family}", message, "Observe only what is not masked.")
        if not kept.any():
            return
        stable = getattr(ours, "logits", None) is not None
        names = ["logits" if stable and each == "probs" else each for each in ours.parameters]
        chosen: Any = type(ours)(**{each: _elements(getattr(ours, each), shape, kept) for each in names})
        site = Site(OBSERVE, chosen, None, name, name, False, True)
        site.value = check_value(site, _elements(value, shape, kept))
        self._send(site)

    def _send(self, site: Site) -> None:
        """Sends a site up our stack, with this execution's part of numpyro's stack out of the way."""
        from numpyro.primitives import _PYRO_STACK

        frame = next(frames(), None)
        if frame is None:  # plain Python: nobody is interested
            if site.value is None and site.kind in (SAMPLE, OBSERVE):
                site.value = site.distribution.sample(Stream(check_seed(None)))
            return
        own = _PYRO_STACK[self.depth :]
        del _PYRO_STACK[self.depth :]
        try:
            send(site, frame)
        finally:
            _PYRO_STACK[self.depth :] = own


def _elements(values: Any, shape: tuple[int, ...], kept: np.ndarray) -> Any:
    """The elements of values, broadcast to a shape, for which a mask is true; (n,)."""
    if is_tracer(values):
        import jax.numpy as jnp

        return jnp.broadcast_to(values, shape)[kept]
    return np.broadcast_to(np.asarray(values), shape)[kept]


def _innermost(distribution: Any) -> str:
    while type(distribution).__name__ in ("ExpandedDistribution", "Independent"):
        distribution = distribution.base_dist
    return type(distribution).__name__


def _inexpressible(what: str, message: dict, remedy: str) -> PPLError:
    return PPLError(f"numpyro site '{message.get('name', '?')}': {what} cannot be expressed in a trace. {remedy}")


# -- recognising numpyro's models --------------------------------------------------------------------------------------

_PRIMITIVES = ("sample", "factor", "deterministic", "plate", "plate_stack", "param", "subsample", "mutable")


def adapt(model: Any) -> Any:
    """``model`` itself, or ``from_numpyro(model)`` where it is recognisably one of numpyro's.

    Recognised are: a handler of numpyro; a function that, itself or through functions of its own module, refers by a
    global or closed-over name to ``numpyro`` or one of its primitives; and handlers of ours, ``functools.partial`` and
    bound methods around these. Any other numpyro model needs :func:`from_numpyro`. To be recognised does no harm to a
    model that also calls our primitives.
    """
    if "numpyro" not in sys.modules or isinstance(model, NumpyroModel):
        return model
    if isinstance(model, Handler) and model.model is not None:
        inner = adapt(model.model)
        return model if inner is model.model else replace(model, model=inner)
    return NumpyroModel(model) if _is_numpyro(model) else model


def _is_numpyro(model: Any) -> bool:
    from numpyro.primitives import Messenger

    if isinstance(model, Messenger):
        return True
    if isinstance(model, functools.partial):
        return _is_numpyro(model.func)
    function = getattr(model, "__func__", model)
    if not isinstance(function, FunctionType):
        function = vars(type(model)).get("__call__")
    return isinstance(function, FunctionType) and _refers(function, set())


def _refers(function: FunctionType, seen: set[int]) -> bool:
    """Whether a function, or one of its module that it refers to, names numpyro's primitives."""
    if id(function) in seen:
        return False
    seen.add(id(function))
    meant = _numpyro_objects()
    for value in _referred(function):
        if id(value) in meant:
            return True
        if isinstance(value, FunctionType) and value.__module__ == function.__module__ and _refers(value, seen):
            return True
    return hasattr(function, "__wrapped__") and _refers(function.__wrapped__, seen)


def _referred(function: FunctionType) -> list[Any]:
    """The values of the global and closed-over names in a function and the functions nested in it."""
    names: set[str] = set()
    pending: list[CodeType] = [function.__code__]
    while pending:
        code = pending.pop()
        names.update(code.co_names)
        pending.extend(constant for constant in code.co_consts if isinstance(constant, CodeType))
    found = [function.__globals__[name] for name in names if name in function.__globals__]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not yet assigned
            continue
    return found


def _numpyro_objects() -> set[int]:
    """Identities of numpyro, the module of its primitives, and these."""
    primitives = sys.modules["numpyro.primitives"]
    return {id(sys.modules["numpyro"]), id(primitives), *(id(getattr(primitives, name)) for name in _PRIMITIVES)}

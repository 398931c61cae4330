"""What every distribution offers, on the host and on the device.

The host side is plain Python and numpy: scalar parameters stay Python floats and use ``math`` only, because simulators
draw one number at a time. ``to_numpyro()`` gives the device twin, which models traced by JAX use. JAX is not imported
here: its tracers are recognised by their module and passed through unvalidated.
"""

from __future__ import annotations

import math
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from ppl_jax.distributions import arrays
from ppl_jax.distributions.numbers import as_numbers
from ppl_jax.errors import ParameterError, ParameterTypeError


class UniformSource(Protocol):
    """Anything with ``random()`` giving uniforms in (0, 1): Stream, random.Random, numpy.random.Generator."""

    def random(self) -> float: ...


#: Samplers whose draws could round to a bound at which the density is 0 or infinite, or overflow, keep them between
#: these: a draw then always has a finite log density.
SMALLEST, LARGEST = sys.float_info.min, sys.float_info.max

#: The largest count: above it float64, in which values are stored and sent, no longer holds every integer.
LARGEST_COUNT = 2.0**53


def is_tracer(value: Any) -> bool:
    """Whether ``value`` is an abstract JAX value (a concrete JAX array is not)."""
    return type(value).__module__.startswith("jax.") and hasattr(value, "aval")


def as_parameter(value: Any) -> Any:
    """A parameter as it is kept: a float, a read-only float64 array of its own, or a tracer.

    Concrete JAX arrays become numpy arrays; a list that holds tracers becomes one tracer.
    """
    kind = type(value)
    if kind is float:
        return value
    if kind is bool or kind is np.float64 or (kind is int and -LARGEST <= value <= LARGEST):
        return float(value)
    if kind is not np.ndarray and is_tracer(value):
        return value
    if kind is np.ndarray and value.dtype.kind in "fiub":
        array = np.array(value, dtype=np.float64)  # a copy: the caller may go on to change theirs
    elif _holds_tracer(value):
        import jax.numpy as jnp

        return jnp.asarray(value)
    else:
        try:
            array = as_numbers(value)
        except (TypeError, OverflowError) as error:
            raise ParameterTypeError(*_constructed(value), value, str(error)) from None
    if array.ndim == 0:
        return array.item()
    array.setflags(write=False)
    return array


def _constructed(value: Any) -> tuple[str, str]:
    """The family whose constructor is running, and the parameter that has this value, for an error; "" if unknown."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not isinstance(frame.f_locals.get("self"), Distribution):
        frame = frame.f_back
    if frame is None:
        return "", ""
    family, given = type(frame.f_locals["self"]), frame.f_locals
    named = next((name for name in family.parameters if given.get(name) is value), "")
    return family.__name__, named


def _holds_tracer(value: Any) -> bool:
    return is_tracer(value) or (isinstance(value, (list, tuple)) and any(_holds_tracer(part) for part in value))


def holds(condition: Any) -> bool:
    """Whether ``condition`` (a bool or a boolean array) holds everywhere. Tracers, of which nothing is known, pass."""
    if type(condition) is bool:
        return condition
    if type(condition) is np.ndarray:
        return bool(condition.all())
    return is_tracer(condition) or bool(np.all(condition))


def require(condition: Any, family: str, parameter: str, value: Any, expected: str) -> None:
    """Raises ParameterError unless ``condition`` (a bool or a boolean array) holds everywhere; no check of tracers.

    For texts that are constants. Who must write one asks ``holds`` first: numbers take far longer to print than to
    check.
    """
    if not holds(condition):
        raise ParameterError(family, parameter, value, expected)


def require_number(family: str, parameter: str, value: Any) -> None:
    """Raises ParameterError if ``value`` is NaN anywhere; infinities pass."""
    if type(value) is float and value == value:
        return
    if not is_tracer(value):
        require(~np.isnan(value), family, parameter, value, "a number, not NaN")


def require_finite(family: str, parameter: str, value: Any) -> None:
    """Raises ParameterError unless ``value`` is finite everywhere."""
    if type(value) is float and -math.inf < value < math.inf:
        return
    if not is_tracer(value):
        require(np.isfinite(value), family, parameter, value, "finite")


def require_positive(family: str, parameter: str, value: Any) -> None:
    """Raises ParameterError unless 0 < ``value`` < infinity everywhere."""
    if type(value) is float and 0.0 < value < math.inf:
        return
    if not is_tracer(value):
        require((value > 0.0) & (value < np.inf), family, parameter, value, "positive and finite")


def require_probability(family: str, parameter: str, value: Any) -> None:
    """Raises ParameterError unless 0 <= ``value`` <= 1 everywhere."""
    if type(value) is float and 0.0 <= value <= 1.0:
        return
    if not is_tracer(value):
        inside = np.greater_equal(value, 0.0) & np.less_equal(value, 1.0)
        require(inside, family, parameter, value, "a probability in [0, 1]")


def require_below(family: str, low: Any, high: Any) -> None:
    """Raises ParameterError unless the bound ``low`` is below the bound ``high`` everywhere."""
    if not (is_tracer(low) or is_tracer(high) or holds(low < high)):
        raise ParameterError(family, "high", high, f"above low = {low!r}")


class Distribution:
    """Base class. Instances are immutable values; equality is by family and parameters.

    Attributes: the parameters, under the names in ``parameters`` (constructor order); ``shape``, the shape of one value
    (batch and event together); ``discrete``, whether values are integers.
    """

    __slots__ = ("shape",)
    parameters: ClassVar[tuple[str, ...]] = ()
    discrete: bool = False
    shape: tuple[int, ...]

    if TYPE_CHECKING:  # the parameters, which every family keeps in slots of its own

        def __getattr__(self, name: str) -> Any: ...

    @property
    def family(self) -> str:
        return type(self).__name__

    def sample(self, rng: UniformSource) -> Any:
        """One value (float, int, or array of ``shape``), by an explicit algorithm over ``rng.random()``."""
        raise NotImplementedError

    def log_prob(self, value: Any) -> Any:
        """Log density or mass, elementwise over batch dimensions.

        It is -inf outside the support, to which NaN never belongs, and raises for no number. At a bound where a density
        is unbounded it is +inf; ``sample`` never returns such a bound.
        """
        raise NotImplementedError

    def inflated(self, factor: float) -> Distribution:
        """A wider distribution of at least the same support, for prior inflation; itself where none is defined."""
        return self

    def to_numpyro(self) -> Any:
        """The numpyro distribution with the same density."""
        raise NotImplementedError

    def _traced_log_prob(self, value: Any) -> Any:
        from ppl_jax.distributions.device import log_densities  # imports JAX, which is there if there are tracers

        return log_densities(self, value)

    @property
    def mean(self) -> Any:
        raise NotImplementedError

    @property
    def variance(self) -> Any:
        raise NotImplementedError

    @property
    def stddev(self) -> Any:
        return np.sqrt(self.variance)

    @property
    def support(self) -> tuple[Any, Any]:
        """Lower and upper bound of the values (inclusive where finite and discrete)."""
        raise NotImplementedError

    # -- storage: a hashable layout and a flat row of floats ------------------------------------------------------

    def layout(self) -> tuple:
        """A hashable, JSON-able description of everything but the numbers: family and parameter shapes."""
        return (type(self).__name__, *(_shape_of(getattr(self, name)) for name in self.parameters))

    def numbers(self) -> list[float]:
        """All parameters as one flat list of floats, in the order of ``layout``."""
        row: list[float] = []
        for name in self.parameters:
            value = getattr(self, name)
            if type(value) is float:
                row.append(value)
            else:
                row.extend(np.asarray(value, dtype=np.float64).ravel().tolist())
        return row

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Distribution)
            and type(self) is type(other)
            and self.layout() == other.layout()
            and self.numbers() == other.numbers()
        )

    def __hash__(self) -> int:
        return hash((self.layout(), tuple(self.numbers())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.parameters)})"


def _shape_of(value: Any) -> tuple[int, ...]:
    return () if type(value) is float else tuple(value.shape)


class Elementwise(Distribution):
    """A distribution over scalars whose parameters broadcast to an array of independent values.

    A family gives the three static methods below for one element and for arrays; this class chooses between them.
    ``_draw`` and ``_log_density`` get Python floats and use ``math`` only; ``_log_densities`` gets arrays.
    ``_floats`` holds the parameters in order where all are Python floats, and is None else.
    """

    __slots__ = ("_floats",)
    _floats: tuple[float, ...] | None
    _compiled: ClassVar[int | None] = None  # the number of the family among the compiled samplers

    _draw: Any  # (uniform, *parameters) -> float or int
    _log_density: Any  # (value, *parameters) -> float
    _log_densities: Any  # (value, *parameters) -> array

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        ours = cls.__module__.startswith("ppl_jax.distributions.")  # a user's class may have the name of one of ours
        cls._compiled = arrays.FAMILIES.get(cls.__name__) if ours else None

    def layout(self) -> tuple:
        return super().layout() if self._floats is None else (type(self).__name__, *((),) * len(self._floats))

    def numbers(self) -> list[float]:
        return super().numbers() if self._floats is None else list(self._floats)

    def _values(self) -> list[Any]:
        return [getattr(self, name) for name in self.parameters]

    def sample(self, rng: UniformSource) -> Any:
        floats = self._floats
        if floats is not None:
            return self._draw(rng.random, *floats)
        if self._compiled is not None:
            values = arrays.draw_elements(rng, self._compiled, self.shape, self._values())
            if values is not None:
                return values.astype(np.int64) if self.discrete else values
        return self._draw_each(rng)

    def _draw_each(self, rng: UniformSource) -> np.ndarray:
        """An array of draws, one after the other."""
        columns = [np.broadcast_to(value, self.shape).ravel().tolist() for value in self._values()]
        draws = [self._draw(rng.random, *element) for element in zip(*columns, strict=True)]
        return np.array(draws, dtype=np.int64 if self.discrete else np.float64).reshape(self.shape)

    def log_prob(self, value: Any) -> Any:
        floats = self._floats
        if floats is not None:
            if type(value) is float or type(value) is int:
                return self._log_density(float(value), *floats)
            if not is_tracer(value) and np.ndim(value) == 0:
                return self._log_density(float(value), *floats)
        values = self._values()
        if is_tracer(value) or any(is_tracer(parameter) for parameter in values):
            return self._traced_log_prob(value)
        with np.errstate(all="ignore"):
            return self._log_densities(
                np.asarray(value, dtype=np.float64), *(np.asarray(p, dtype=np.float64) for p in values)
            )

    def _broadcast(self, *values: Any) -> None:
        """Sets ``shape`` to what the parameters (normalised by ``as_parameter``, in order) broadcast to."""
        if all([type(value) is float for value in values]):  # noqa: C419 (a generator costs three times as much)
            self.shape, self._floats = (), values
            return
        self._floats = None
        shapes = [_shape_of(value) for value in values]
        arrays = {shape for shape in shapes if shape}
        if len(arrays) == 1:  # numpy needs ten times as long to find this out
            (self.shape,) = arrays
            return
        try:
            self.shape = np.broadcast_shapes(*shapes)
        except ValueError:
            expected = f"broadcastable with the others (shapes {shapes})"
            raise ParameterError(self.family, self.parameters[-1], values[-1], expected) from None

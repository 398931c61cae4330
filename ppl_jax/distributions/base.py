"""What every distribution offers, on the host and on the device.

The host side is plain Python and numpy: scalar parameters stay Python floats and use ``math`` only, because simulators
draw one number at a time. ``to_numpyro()`` gives the device twin, which models traced by JAX use. JAX is not imported
here: its tracers are recognised by their module and passed through unvalidated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from ppl_jax.errors import ParameterError


class UniformSource(Protocol):
    """Anything with ``random()`` giving uniforms in (0, 1): Stream, random.Random, numpy.random.Generator."""

    def random(self) -> float: ...


def is_tracer(value: Any) -> bool:
    """Whether ``value`` is an abstract JAX value (a concrete JAX array is not)."""
    return type(value).__module__.startswith("jax.") and hasattr(value, "aval")


def as_parameter(value: Any) -> Any:
    """A parameter as it is kept: a float, a float64 array, or a tracer."""
    kind = type(value)
    if kind is float:
        return value
    if kind is int or kind is bool:
        return float(value)
    if is_tracer(value):
        return value
    array = np.asarray(value, dtype=np.float64)
    return array.item() if array.ndim == 0 else array


def require(condition: Any, family: str, parameter: str, value: Any, expected: str) -> None:
    """Raises ParameterError unless ``condition`` (a bool or a boolean array) holds everywhere; tracers are not checked."""
    if is_tracer(condition):
        return
    if not (condition if isinstance(condition, bool) else np.all(condition)):
        raise ParameterError(family, parameter, value, expected)


def require_finite(family: str, parameter: str, value: Any) -> None:
    if not is_tracer(value):
        require(np.isfinite(value), family, parameter, value, "finite")


def require_positive(family: str, parameter: str, value: Any) -> None:
    if not is_tracer(value):
        require(np.isfinite(value) & (np.asarray(value) > 0), family, parameter, value, "positive and finite")


class Distribution:
    """Base class. Instances are immutable values; equality is by family and parameters.

    Class attributes:
      parameters: names of the parameters, in constructor order.
      discrete: whether values are integers.
    Instance attributes: the parameters, and ``shape``, the shape of one value (batch and event together).
    """

    __slots__ = ("shape",)
    parameters: ClassVar[tuple[str, ...]] = ()
    discrete: ClassVar[bool] = False
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
        """Log density or mass, elementwise over batch dimensions; -inf outside the support, never an exception."""
        raise NotImplementedError

    def inflated(self, factor: float) -> Distribution:
        """A wider distribution of at least the same support, for prior inflation; itself where none is defined."""
        return self

    def to_numpyro(self) -> Any:
        """The numpyro distribution with the same density."""
        raise NotImplementedError

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
        return (
            type(self) is type(other)
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
    """

    __slots__ = ()

    _draw: Any  # (uniform, *parameters) -> float or int
    _log_density: Any  # (value, *parameters) -> float
    _log_densities: Any  # (value, *parameters) -> array

    def layout(self) -> tuple:
        return (type(self).__name__, *((),) * len(self.parameters)) if self.shape == () else super().layout()

    def _values(self) -> tuple:
        return tuple([getattr(self, name) for name in self.parameters])

    def sample(self, rng: UniformSource) -> Any:
        values = self._values()
        if self.shape == ():
            return self._draw(rng.random, *values)
        columns = [np.broadcast_to(value, self.shape).ravel().tolist() for value in values]
        draws = [self._draw(rng.random, *element) for element in zip(*columns, strict=True)]
        return np.array(draws, dtype=np.int64 if self.discrete else np.float64).reshape(self.shape)

    def log_prob(self, value: Any) -> Any:
        values = self._values()
        if is_tracer(value) or any(is_tracer(parameter) for parameter in values):
            return self.to_numpyro().log_prob(value)
        if self.shape == () and np.ndim(value) == 0:
            return self._log_density(float(value), *values)
        with np.errstate(all="ignore"):
            return self._log_densities(
                np.asarray(value, dtype=np.float64), *(np.asarray(p, dtype=np.float64) for p in values)
            )

    def _set(self, *values: Any) -> None:
        """Keeps the parameters (normalised by ``as_parameter``) and the shape they broadcast to."""
        shapes = []
        for name, value in zip(self.parameters, values, strict=True):
            setattr(self, name, value)
            shapes.append(_shape_of(value))
        try:
            self.shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise ParameterError(
                self.family, self.parameters[-1], values[-1], f"broadcastable with the others (shapes {shapes})"
            ) from None

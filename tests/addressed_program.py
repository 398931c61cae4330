"""Calls from every kind of place in a program. Run as a script it prints the address of each.

    python addressed_program.py ADDRESSES

ADDRESSES is the path of ppl_jax/addresses.py, which needs nothing but the standard library, so that interpreters
without the other requirements can run this too.
"""

# ruff: noqa: B015, B018, C416, C417, PIE804, RUF012, RUF059 - these are the places to call from

import contextlib
import functools
import importlib.util
import json
import sys

FOUND = []
ADDRESSES = None


def sample(label):
    FOUND.append((label, ADDRESSES.call_site(sys._getframe(1), ENTRY[-1])))
    return 1


ENTRY = []


class Namespace:
    sample = staticmethod(sample)


Namespace.inner = Namespace


# fmt: off
def plain():
    return sample("plain")


def several_lines():
    first = (Namespace
        .inner
        .sample(
            "method over lines",
        ))
    return first + sample(
        "argument over lines"
    )


def comprehensions():
    [sample("list") for _ in range(2)]
    {sample("set") for _ in range(1)}
    {key: sample("dict") for key in range(1)}
    [[sample("nested") for _ in range(1)] for _ in range(1)]
    [f() for f in [lambda: sample("lambda in list") for _ in range(1)]]
    [(lambda: sample("lambda called in list"))() for _ in range(1)]
    sum(sample("generator expression") for _ in range(2))
    [sum(sample("generator expression in list") for _ in range(1)) for _ in range(1)]
    list(map(lambda _: sample("lambda in map"), [1]))
    [x for x in (sample("iterable"),)]
    [x for x in range(2) if sample("condition")]
    [helper(x) for x in range(1)]
    [(lambda: [sample("list in lambda in list") for _ in range(1)])() for _ in range(1)]


def helper(x):
    return sample("helper")


def numbers():
    for _ in range(2):
        yield sample("generator")
    yield from delegate()


def delegate():
    yield sample("yield from")


def generators():
    for _ in numbers():
        pass
    a, b, c = numbers()
    list(numbers())
    [*numbers()]


def decorator(function):
    @functools.wraps(function)
    def wrapper():
        return function()
    return wrapper


@decorator
@decorator
def decorated():
    return sample("decorated")


def recursive(depth):
    if depth == 0:
        return sample("recursive")
    return recursive(depth - 1)


class Thing:
    def __init__(self):
        sample("init")

    def __enter__(self):
        sample("enter")
        return self

    def __exit__(self, *exception):
        sample("exit")

    def __add__(self, other):
        return sample("add")

    def __getitem__(self, index):
        return sample("getitem")

    def __iter__(self):
        return iter([sample("iter")])

    def __lt__(self, other):
        return sample("less than")

    def __bool__(self):
        return bool(sample("bool"))

    def __call__(self):
        return self.method()

    def method(self):
        return sample("method")

    @property
    def size(self):
        return sample("property")

    @staticmethod
    def static():
        return sample("static")

    @classmethod
    def of_class(cls):
        return sample("class method")


def statements():
    thing = Thing()
    thing.size
    with thing:
        pass
    with (
        thing as other,
        contextlib.nullcontext(sample("in the header")),
    ):
        sample("in with")
    thing + other
    thing[0]
    thing < other
    for _ in thing:
        pass
    while not thing:
        pass
    if thing:
        pass
    thing and other
    1 if thing else 2
    thing()
    thing.static()
    Thing.of_class()
    f"{sample('f-string')}"
    print(*[sample("star")], end="", file=sys.stderr, **{"sep": "" * sample("keyword")})
    max([1, 2], key=lambda value: sample("key"))
    try:
        raise ValueError
    except ValueError:
        sample("except")
    finally:
        sample("finally")
    match sample("match"):
        case 1:
            sample("case")

    def nested():
        return sample("nested function")
    nested()

    class Local:
        attribute = sample("class body")
        attributes = [sample("comprehension in class body") for _ in range(1)]
    sample("a"); sample("b")  # noqa: E702
    (walrus := sample("walrus"))
    sample("inner" * sample("outer" * sample("outermost")))
    sorted([3, 1], key=functools.partial(partial, walrus))


def partial(first, second):
    return sample("partial")


class Asynchronous:
    async def __aenter__(self):
        sample("aenter")

    async def __aexit__(self, *exception):
        sample("aexit")


async def coroutine():
    sample("coroutine")
    await awaited()
    async for _ in asynchronous_numbers():
        sample("async for")
    [number async for number in asynchronous_numbers()]
    async with Asynchronous():
        pass


async def awaited():
    sample("awaited")


async def asynchronous_numbers():
    yield sample("async generator")


def asynchronous():
    running = coroutine()
    with contextlib.suppress(StopIteration):
        running.send(None)
# fmt: on


def main(path):
    global ADDRESSES
    specification = importlib.util.spec_from_file_location("addresses", path)
    ADDRESSES = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(ADDRESSES)
    ENTRY.append(sys._getframe())
    plain()
    several_lines()
    comprehensions()
    generators()
    decorated()
    recursive(3)
    statements()
    asynchronous()
    print(json.dumps(FOUND))


if __name__ == "__main__":
    main(sys.argv[1])

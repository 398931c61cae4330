// Statements in all the places where one can stand. Usage: addresses ENDPOINT

#include <cstdint>
#include <cstdlib>
#include <functional>

#include <ppx.hpp>

namespace shower {

template <class Number>
__attribute__((noinline)) double templated(Number) {
    return ppx::sample(ppx::Uniform(0.0, 1.0), "template");
}

struct Base {
    virtual ~Base() = default;
    virtual double draw() = 0;
};

struct Derived : Base {
    __attribute__((noinline)) double draw() override { return ppx::sample(ppx::Uniform(0.0, 1.0), "virtual"); }
};

} // namespace shower

namespace {

__attribute__((noinline)) double anonymous() { return ppx::sample(ppx::Uniform(0.0, 1.0), "anonymous"); }

__attribute__((noinline)) double here(const char *name) { return ppx::sample(ppx::Uniform(0.0, 1.0), ppx::here(name)); }

volatile int one = 1;

// One call site for all levels but the first; statements at three of them.
__attribute__((noinline)) int recursion(int depth) {
    if (depth == 10000 || depth == 9999 || depth == 0) ppx::sample(ppx::Uniform(0.0, 1.0), "recursion");
    return depth ? recursion(depth - 1) + one : 0;
}

int odd(int depth);
__attribute__((noinline)) int even(int depth) {
    if (!depth) ppx::sample(ppx::Uniform(0.0, 1.0), "even and odd");
    return depth ? odd(depth - 1) + one : 0;
}
__attribute__((noinline)) int odd(int depth) { return depth ? even(depth - 1) + one : 0; }

// Two call sites, taken as the bits of `path` say: a stack without repetition.
__attribute__((noinline)) int tree(int depth, std::uint64_t path) {
    if (!depth) ppx::sample(ppx::Uniform(0.0, 1.0), "tree");
    if (!depth) return 0;
    path = path * 6364136223846793005u + 1442695040888963407u;
    int result;
    if (path >> 63) {
        result = tree(depth - 1, path);
        __asm__ volatile("# left"); // so that the two calls are not made one
    } else {
        result = tree(depth - 1, path);
        __asm__ volatile("# right");
    }
    return result + one;
}

} // namespace

static int compare(const void *, const void *) {
    ppx::sample(ppx::Uniform(0.0, 1.0), "called by qsort");
    return 0;
}

__attribute__((noinline)) static double called_twice(const char *name) {
    return ppx::sample(ppx::Uniform(0.0, 1.0), name);
}

// As the hook of a simulator: it looks where it is called from, and draws there.
__attribute__((noinline)) static void hooked() {
    const ppx::Place place = ppx::place();
    ppx::sample(ppx::Uniform(0.0, 1.0), ppx::Statement("a place by number").at(place));
    ppx::sample(ppx::Uniform(0.0, 1.0), ppx::Statement("a place by text").at(place.address));
    ppx::tag(place.number, "number of a place");
}

void places() {
    anonymous();
    shower::templated(1);
    shower::templated(1.0);
    shower::Derived derived;
    shower::Base &base = derived;
    base.draw();
    int numbers[2] = {1, 2};
    std::qsort(numbers, 2, sizeof *numbers, compare);
    const std::function<double()> lambda = [] { return ppx::sample(ppx::Uniform(0.0, 1.0), "lambda"); };
    lambda();
    for (int i = 0; i < 2; ++i) called_twice("in a loop");
    called_twice("after the loop");
    here("here");
    here("here from elsewhere");
    ppx::sample(ppx::Uniform(0.0, 1.0), ppx::Statement("explicit").at("tau:px"));
    ppx::observe(ppx::Normal(0.0, 1.0), "observe");
    ppx::tag(1.0, "tag");
    ppx::factor(0.0, "factor");
    {
        const ppx::RejectionScope scope("scope");
    }
    for (int i = 0; i <= one; ++i) hooked(); // one call, not unrolled
    hooked();
    recursion(10000);
    even(6000);
    tree(3000, 1);
    tree(3000, 2);
}

int main(int argc, char **argv) { return ppx::serve(argc, argv, places, "places"); }

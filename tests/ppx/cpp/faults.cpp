// Models that go wrong. Usage: faults ENDPOINT KIND. Every model first draws "first"; what it does then, KIND says, but
// only if the draw is below 0.5: executions that follow a failed one must be well.

#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <ppx.hpp>

namespace {

struct Tagger {
    ~Tagger() { ppx::tag(1.0, "from a destructor"); }
};

struct Sampler {
    ~Sampler() {
        const ppx::Array array = ppx::sample(ppx::Each<ppx::Normal>({0.0, 1.0, 2.0}, 1.0), "from a destructor");
        if (array.size() != 3 || array[2] == array[2]) std::abort(); // not NaN
        if (ppx::sample(ppx::Each<ppx::Normal>({0.0, 1.0, 2.0}, {1.0, 1.0})).size() != 1) std::abort(); // no shape
    }
};

struct Unlike {};

[[noreturn]] void fail_below() {
    ppx::tag(1.0, ppx::Statement("last").at("the last statement"));
    throw std::out_of_range("no such layer: 17");
}

double wrong(const std::string &kind) {
    if (kind == "standard") fail_below();
    if (kind == "text") throw "a text";
    if (kind == "string") throw std::string("a string");
    if (kind == "number") throw 42;
    if (kind == "unlike") throw Unlike();
    if (kind == "parameter") return ppx::sample(ppx::Normal(0.0, -1.0), ppx::Statement("bad").at("the bad draw"));
    const double infinity = std::numeric_limits<double>::infinity();
    if (kind == "parameter of an array") ppx::sample(ppx::Each<ppx::Normal>({0.0, 1.0}, {1.0, infinity}));
    if (kind == "shapes") ppx::sample(ppx::Each<ppx::Normal>({0.0, 1.0}, {1.0, 1.0, 1.0}));
    if (kind == "mixture") ppx::sample(ppx::Mixture({0.5, 0.5}, {ppx::Normal(0.0, 1.0)}));
    if (kind == "factor") ppx::factor(infinity);
    if (kind == "name") ppx::sample(ppx::Normal(0.0, 1.0), "not UTF-8: \xff");
    if (kind == "result") throw std::bad_alloc();
    if (kind == "destructor") {
        const Tagger tagger;
        throw std::runtime_error("while a destructor tags");
    }
    if (kind == "given up in a destructor") {
        const Tagger tagger;
        ppx::sample(ppx::Normal(0.0, -1.0));
    }
    if (kind == "array in a destructor") {
        const Sampler sampler;
        ppx::sample(ppx::Normal(0.0, -1.0));
    }
    if (kind == "scope") {
        const ppx::RejectionScope scope("scope");
        throw std::runtime_error("inside a scope");
    }
    if (kind == "swallowed") {
        for (int i = 0; i < 3; ++i) {
            try {
                ppx::sample(ppx::Normal(0.0, -1.0));
            } catch (...) { // what no model should do
            }
        }
    }
    if (kind == "swallowed and thrown") {
        try {
            ppx::sample(ppx::Normal(0.0, -1.0));
        } catch (...) {
            throw std::runtime_error("in place of what was caught");
        }
    }
    if (kind == "integer") return static_cast<double>(ppx::sample(ppx::Poisson(3.0), "count"));
    return 0.0;
}

} // namespace

int main(int argc, char **argv) {
    const std::string kind = argc == 3 ? argv[2] : "";
    return ppx::serve(2, argv,
                      [&kind] {
                          const double first = ppx::sample(ppx::Uniform(0.0, 1.0), "first");
                          return first < 0.5 ? wrong(kind) : first;
                      },
                      "faults");
}

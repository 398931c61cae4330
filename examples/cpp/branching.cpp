// A program whose second latent variable exists or not, as the first one decides (Wood, van de Meent & Mansinghka,
// 2014).

#include <cstdint>

#include <ppx.hpp>

std::int64_t fibonacci(std::int64_t n) { return n < 2 ? 1 : fibonacci(n - 1) + fibonacci(n - 2); }

std::int64_t branching() {
    const std::int64_t r = ppx::sample(ppx::Poisson(4.0), "r");
    const std::int64_t rate = r > 4 ? 6 : fibonacci(3 * r) + ppx::sample(ppx::Poisson(4.0), "extra");
    ppx::observe(ppx::Poisson(static_cast<double>(rate)), "y");
    return r;
}

int main(int argc, char **argv) { return ppx::serve(argc, argv, branching, "branching"); }

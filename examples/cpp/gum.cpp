// Gaussian with unknown mean: two measurements of a quantity, inverted.

#include <cmath>

#include <ppx.hpp>

double gum() {
    const double mu = ppx::sample(ppx::Normal(1.0, std::sqrt(5.0)), "mu");
    ppx::observe(ppx::Normal(mu, std::sqrt(2.0)), "obs0");
    ppx::observe(ppx::Normal(mu, std::sqrt(2.0)), "obs1");
    return mu;
}

int main(int argc, char **argv) { return ppx::serve(argc, argv, gum, "gum"); }

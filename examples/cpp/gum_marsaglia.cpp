// Gaussian with unknown mean, which is drawn by Marsaglia's polar method: a loop that draws until a point falls in the
// disc. The number of latent variables differs from execution to execution.

#include <cmath>

#include <ppx.hpp>

double marsaglia(double mean, double stddev) {
    const ppx::Uniform uniform(-1.0, 1.0);
    for (;;) {
        const double x = ppx::sample(uniform);
        const double y = ppx::sample(uniform);
        const double s = x * x + y * y;
        if (0.0 < s && s < 1.0) return mean + stddev * x * std::sqrt(-2.0 * std::log(s) / s);
    }
}

double gum_marsaglia() {
    const double mu = marsaglia(1.0, std::sqrt(5.0));
    ppx::observe(ppx::Normal(mu, std::sqrt(2.0)), "obs0");
    ppx::observe(ppx::Normal(mu, std::sqrt(2.0)), "obs1");
    ppx::tag(mu, "mu");
    return mu;
}

int main(int argc, char **argv) { return ppx::serve(argc, argv, gum_marsaglia, "gum_marsaglia"); }

// A program that nobody serves: statements draw by themselves. Usage: local SEED INDEX; prints the values.

#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include <ppx.hpp>

int main(int argc, char **argv) {
    if (argc == 3) ppx::seed(std::strtoull(argv[1], nullptr, 10), std::strtoull(argv[2], nullptr, 10));
    ppx::RejectionScope scope;
    std::printf("%a\n", ppx::sample(ppx::Normal(1.0, 2.0), "mu"));
    scope.reject();
    std::printf("%" PRId64 "\n", ppx::sample(ppx::Poisson(30.0)));
    const ppx::Array array = ppx::sample(ppx::MultivariateNormal({0.0, 1.0}, ppx::Array({1.0, 0.0, 0.5, 2.0}, {2, 2})));
    std::printf("%a\n%a\n", array[0], array[1]);
    std::printf("%a\n", ppx::sample(ppx::Mixture({0.3, 0.7}, {ppx::Normal(0.0, 1.0), ppx::Normal(5.0, 1.0)})));
    const ppx::Normal normal(0.0, 1.0);
    const bool nothing = !ppx::observe(normal, "asked") && *ppx::observe(normal, 3.0) == 3.0;
    ppx::tag(1.0, "tag");
    ppx::factor(-1.0);
    std::printf("%d %d\n", nothing, ppx::connected());
    for (const ppx::Array::Shape &shape : {ppx::Array::Shape{2}, {-1, -1}, {0, -1}, {1, 1}, {}}) {
        try {
            std::printf("%zu ", ppx::Array({1.0}, shape).shape().size());
        } catch (const std::invalid_argument &) {
            std::printf("no ");
        }
    }
    std::printf("dimensions\n");
    try {
        ppx::sample(ppx::Uniform(1.0, 1.0));
    } catch (const ppx::ParameterError &error) {
        std::printf("%s\n", error.what());
    }
}

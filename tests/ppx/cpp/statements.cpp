// Every kind of statement, in every form. Usage: statements ENDPOINT

#include <limits>
#include <optional>
#include <vector>

#include <ppx.hpp>

namespace {

std::vector<double> statements() {
    const double mu = ppx::sample(ppx::Normal(1.0, 2.0), "mu");
    const double nuisance = ppx::sample(ppx::Uniform(0.0, 1.0), ppx::Statement("nuisance").uncontrolled());
    ppx::set_default_control(false);
    ppx::sample(ppx::Uniform(0.0, 1.0), "by default uncontrolled");
    ppx::sample(ppx::Uniform(0.0, 1.0), ppx::Statement("controlled").control(true));
    // No return to the model's default here: the next execution begins with it.
    const std::int64_t count = ppx::sample(ppx::Poisson(3.0));
    const ppx::Array array = ppx::sample(ppx::Each<ppx::Normal>({0.0, 1.0}, 1.0), "array");
    const std::optional<double> asked = ppx::observe(ppx::Normal(mu, 1.0), "asked");
    const std::optional<double> given = ppx::observe(ppx::Normal(mu, 1.0), 0.25, "given");
    const std::optional<std::int64_t> counted = ppx::observe(ppx::Poisson(2.0), 5, "counted");
    const std::optional<ppx::Array> arrays = ppx::observe(ppx::Each<ppx::Normal>(array, 1.0), {0.5, 0.75}, "arrays");
    ppx::observe(ppx::Array{1.0, 2.0, 3.0}, "output");
    ppx::tag(mu * mu, "square");
    ppx::tag(std::vector<int>{1, 2, 3}, "numbers");
    ppx::tag(std::vector<double>{}, "empty");
    ppx::tag(1.0);
    ppx::factor(-0.5, "penalty");
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {mu,
            nuisance,
            static_cast<double>(count),
            asked.value_or(nan),
            given.value_or(nan),
            counted ? static_cast<double>(*counted) : nan,
            arrays ? (*arrays)[1] : nan,
            static_cast<double>(ppx::connected())};
}

} // namespace

int main(int argc, char **argv) { return ppx::serve(argc, argv, statements, "statements"); }

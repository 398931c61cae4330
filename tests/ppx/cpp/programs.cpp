// Programs with known posteriors and programs for benchmarks, as tests/programs.py and test_cpp_programs.py have them
// in Python. Usage: programs ENDPOINT PROGRAM

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <ppx.hpp>

namespace {

std::int64_t flips(double stop) { return ppx::sample(ppx::Bernoulli(stop), "stop") ? 0 : 1 + flips(stop); }

std::int64_t recursion() {
    const std::int64_t depth = flips(0.4);
    ppx::observe(ppx::Poisson(1.0 + static_cast<double>(depth)), "count");
    return depth;
}

std::int64_t sprinkler() {
    const bool rain = ppx::sample(ppx::Bernoulli(0.2), "rain");
    const bool sprinkled = ppx::sample(ppx::Bernoulli(rain ? 0.01 : 0.4), "sprinkler");
    ppx::observe(ppx::Bernoulli(rain && sprinkled ? 0.99 : rain ? 0.8 : sprinkled ? 0.9 : 0.05), "wet");
    return rain;
}

// The upper half of a normal distribution, by rejection. Its density is twice the normal's, times the likelihood.
double rejection() {
    const ppx::Normal normal(0.0, 1.0);
    ppx::RejectionScope scope("half");
    double x;
    while ((x = ppx::sample(normal, "x")) <= 0.0) scope.reject();
    scope.accept();
    ppx::observe(ppx::Normal(x, 0.5), "y");
    return x;
}

// The number of components, and of the categories of every choice, is itself drawn; and bounds that are drawn: dies of a value that cannot be
// there. (As remote_programs.py has it in Python.)
double unknown_size() {
    const double centres[] = {-2.0, 0.5, 2.5};
    const std::int64_t number = 1 + ppx::sample(ppx::Categorical({0.3, 0.4, 0.3}), "number");
    std::vector<double> means, shares;
    for (std::int64_t j = 0; j < number; ++j) {
        means.push_back(ppx::sample(ppx::Normal(0.0, 3.0), "mean"));
        shares.push_back(1.0 + static_cast<double>(j));
    }
    for (const double y : centres) {
        const std::int64_t chosen = ppx::sample(ppx::Categorical(shares), "choice");
        if (chosen < 0 || chosen >= number) std::abort();
        ppx::observe(ppx::Normal(means[static_cast<std::size_t>(chosen)], 1.0), y, "y");
    }
    const double bound = ppx::sample(ppx::Uniform(0.0, 10.0), "bound"), below = ppx::sample(ppx::Uniform(0.0, bound), "below");
    if (below < 0.0 || below > bound) std::abort();
    ppx::observe(ppx::Normal(below, 0.5), 2.0, "z");
    return static_cast<double>(number);
}

double thousand() {
    const ppx::Normal step(0.0, 1.0);
    double sum = 0.0;
    for (int i = 0; i < 1000; ++i) sum += ppx::sample(step);
    ppx::observe(ppx::Normal(sum, 1.0), "y");
    return sum;
}

void distributions() {
    ppx::sample(ppx::Normal(1.75, 0.5), "normal");
    ppx::sample(ppx::Uniform(1.2, 2.5), "uniform");
    ppx::sample(ppx::Categorical({0.1, 0.5, 0.4}), "categorical");
    ppx::sample(ppx::Poisson(4.0), "poisson");
    ppx::sample(ppx::Bernoulli(0.2), "bernoulli");
    ppx::sample(ppx::Beta(1.2, 2.5), "beta");
    ppx::sample(ppx::Exponential(2.2), "exponential");
    ppx::sample(ppx::Gamma(0.5, 1.2), "gamma");
    ppx::sample(ppx::LogNormal(0.5, 0.2), "log_normal");
    ppx::sample(ppx::Binomial(10.0, 0.72), "binomial");
    ppx::sample(ppx::Weibull(1.1, 0.6), "weibull");
    ppx::sample(ppx::TruncatedNormal(0.0, 1.0, -0.5, 2.0), "truncated_normal");
    ppx::sample(ppx::VonMises(0.5, 2.0), "von_mises");
    const ppx::Mixture two({0.4, 0.6}, {ppx::Normal(0.0, 1.0), ppx::Gamma(2.0, 1.0)});
    ppx::sample(two, "mixture");
    ppx::sample(ppx::Mixture({0.5, 0.5}, {two, ppx::Normal(9.0, 1.0)}), "mixture_of_mixtures");
    ppx::sample(ppx::Mixture({0.5, 0.5}, {ppx::Poisson(3.0), ppx::Categorical({0.5, 0.5})}), "mixture_of_counts");
    ppx::sample(ppx::MultivariateNormal({1.0, -1.0}, ppx::Array({1.0, 0.0, 0.5, 2.0}, {2, 2})), "multivariate_normal");
    ppx::sample(ppx::Delta(3.5), "delta");
    ppx::sample(ppx::NegativeBinomial(3.0, 0.4), "negative_binomial");
    ppx::sample(ppx::NegativeBinomial2(4.0, 0.5), "negative_binomial_2");
    ppx::sample(ppx::BetaBinomial(2.0, 3.0, 10.0), "beta_binomial");
    ppx::sample(ppx::Geometric(0.25), "geometric");
    ppx::sample(ppx::Hypergeometric(20.0, 8.0, 6.0), "hypergeometric");
    ppx::sample(ppx::ZeroInflatedPoisson(0.25, 3.0), "zero_inflated_poisson");
    ppx::sample(ppx::StudentT(3.0, 1.0, 2.0), "student_t");
    ppx::sample(ppx::Cauchy(1.0, 2.0), "cauchy");
    ppx::sample(ppx::HalfCauchy(2.0), "half_cauchy");
    ppx::sample(ppx::HalfNormal(2.0), "half_normal");
    ppx::sample(ppx::Laplace(1.0, 2.0), "laplace");
    ppx::sample(ppx::Logistic(1.0, 2.0), "logistic");
    ppx::sample(ppx::Gumbel(1.0, 2.0), "gumbel");
    ppx::sample(ppx::InverseGamma(3.0, 2.0), "inverse_gamma");
    ppx::sample(ppx::Pareto(1.0, 2.5), "pareto");
    ppx::sample(ppx::Each<ppx::Normal>(ppx::Array({0.0, 1.0, 2.0}, {3, 1}), ppx::Array({0.1, 0.2})), "normals");
    ppx::sample(ppx::Each<ppx::Binomial>(5, ppx::Array({0.1, 0.9})), "binomials");
    ppx::sample(ppx::Each<ppx::Categorical>(ppx::Array({0.5, 0.25, 0.25, 0.0, 0.5, 0.5}, {2, 3})), "categoricals");
    ppx::sample(ppx::Each<ppx::StudentT>({2.0, 5.0}, 1.0, ppx::Array({1.0, 2.0}, {2, 1})), "student_ts");
    ppx::sample(ppx::Each<ppx::TruncatedNormal>({0.0, 1.0}, 1.0, 0.0, {2.0, 3.0}), "truncated_normals");
}

} // namespace

int main(int argc, char **argv) {
    const std::string name = argc == 3 ? argv[2] : "";
    if (name == "recursion") return ppx::serve(2, argv, recursion, name);
    if (name == "sprinkler") return ppx::serve(2, argv, sprinkler, name);
    if (name == "rejection") return ppx::serve(2, argv, rejection, name);
    if (name == "unknown_size") return ppx::serve(2, argv, unknown_size, name);
    if (name == "thousand") return ppx::serve(2, argv, thousand, name);
    if (name == "distributions") return ppx::serve(2, argv, distributions, name);
    std::fprintf(stderr, "usage: %s ENDPOINT recursion|sprinkler|rejection|unknown_size|thousand|distributions\n", argv[0]);
    return 2;
}

// The distributions, as PPX knows them; parameters and domains are those of PROTOCOL.md, section 10.
//
// A distribution of single numbers is made from numbers: Normal(mean, stddev). Each<Normal>(means, stddevs) is an array
// of independent elements: parameters may be numbers or arrays, and are broadcast. Parameters are checked when a
// statement uses them, so that errors are reported with the statement's address.

#ifndef PPX_DISTRIBUTIONS_HPP
#define PPX_DISTRIBUTIONS_HPP

#include <array>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "ppx.h"
#include "array.hpp"

namespace ppx {

// What all distributions are; of these mixtures are made. The classes below add constructors and the type of a value
// only, so one of them may be kept as a Distribution.
class Distribution {
public:
    std::uint32_t family() const { return family_; }

protected:
    explicit Distribution(std::uint32_t family, double a = 0.0, double b = 0.0, double c = 0.0, double d = 0.0)
        : family_(family), numbers_{a, b, c, d} {}
    Distribution(std::uint32_t family, std::vector<Array> arrays, std::vector<Distribution> components = {});

private:
    friend class DistributionView;
    struct Parts;

    std::uint32_t family_;
    std::array<double, 4> numbers_{};    // the parameters, if all are single numbers
    std::shared_ptr<const Parts> parts_; // else these
};

// A distribution as the C interface wants it. It holds as long as the distribution.
class DistributionView {
public:
    explicit DistributionView(const Distribution &distribution) { fill(distribution, view_); }
    const ppx_distribution *get() const { return &view_; }
    DistributionView(const DistributionView &) = delete;
    DistributionView &operator=(const DistributionView &) = delete;

private:
    void fill(const Distribution &distribution, ppx_distribution &view);

    ppx_distribution view_{};
    std::vector<std::vector<ppx_distribution>> components_;
};

// A family of scalar distributions, its number on the wire, how many parameters it has, and the type of its values.
template <std::uint32_t family_number, int num_parameters, class ValueType>
struct Family : Distribution {
    using Value = ValueType;
    static constexpr std::uint32_t number = family_number;
    static constexpr int arity = num_parameters;

protected:
    explicit Family(double a, double b = 0.0, double c = 0.0, double d = 0.0) : Distribution(number, a, b, c, d) {}
    explicit Family(std::vector<Array> arrays, std::vector<Distribution> components = {})
        : Distribution(number, std::move(arrays), std::move(components)) {}
};

// -- real values --

struct Normal : Family<PPX_NORMAL, 2, double> {
    Normal(double mean, double stddev) : Family(mean, stddev) {}
};

struct Uniform : Family<PPX_UNIFORM, 2, double> {
    Uniform(double low, double high) : Family(low, high) {}
};

struct Beta : Family<PPX_BETA, 2, double> {
    Beta(double concentration1, double concentration0) : Family(concentration1, concentration0) {}
};

struct Exponential : Family<PPX_EXPONENTIAL, 1, double> {
    explicit Exponential(double rate) : Family(rate) {}
};

struct Gamma : Family<PPX_GAMMA, 2, double> {
    Gamma(double concentration, double rate) : Family(concentration, rate) {}
};

struct LogNormal : Family<PPX_LOG_NORMAL, 2, double> {
    LogNormal(double loc, double scale) : Family(loc, scale) {}
};

struct Weibull : Family<PPX_WEIBULL, 2, double> {
    Weibull(double scale, double concentration) : Family(scale, concentration) {}
};

struct TruncatedNormal : Family<PPX_TRUNCATED_NORMAL, 4, double> {
    TruncatedNormal(double loc, double scale, double low, double high) : Family(loc, scale, low, high) {}
};

struct VonMises : Family<PPX_VON_MISES, 2, double> {
    VonMises(double loc, double concentration) : Family(loc, concentration) {}
};

struct StudentT : Family<PPX_STUDENT_T, 3, double> {
    StudentT(double df, double loc, double scale) : Family(df, loc, scale) {}
};

struct Cauchy : Family<PPX_CAUCHY, 2, double> {
    Cauchy(double loc, double scale) : Family(loc, scale) {}
};

struct HalfCauchy : Family<PPX_HALF_CAUCHY, 1, double> {
    explicit HalfCauchy(double scale) : Family(scale) {}
};

struct HalfNormal : Family<PPX_HALF_NORMAL, 1, double> {
    explicit HalfNormal(double scale) : Family(scale) {}
};

struct Laplace : Family<PPX_LAPLACE, 2, double> {
    Laplace(double loc, double scale) : Family(loc, scale) {}
};

struct Logistic : Family<PPX_LOGISTIC, 2, double> {
    Logistic(double loc, double scale) : Family(loc, scale) {}
};

// Of largest values.
struct Gumbel : Family<PPX_GUMBEL, 2, double> {
    Gumbel(double loc, double scale) : Family(loc, scale) {}
};

struct InverseGamma : Family<PPX_INVERSE_GAMMA, 2, double> {
    InverseGamma(double concentration, double rate) : Family(concentration, rate) {}
};

struct Pareto : Family<PPX_PARETO, 2, double> {
    Pareto(double scale, double alpha) : Family(scale, alpha) {}
};

// All of the probability at one value.
struct Delta : Family<PPX_DELTA, 1, double> {
    explicit Delta(double value) : Family(value) {}
};

// Components of single numbers, all of real values or all of integers: Mixture({0.3, 0.7}, {Normal(0, 1), Normal(5,
// 1)}).
struct Mixture : Family<PPX_MIXTURE, 1, double> {
    Mixture(std::vector<double> probs, std::vector<Distribution> components)
        : Family(std::vector<Array>{Array(std::move(probs))}, std::move(components)) {}
};

// `scale_tril`: the lower triangular factor of the covariance, shape {d, d}.
struct MultivariateNormal : Family<PPX_MULTIVARIATE_NORMAL, 2, Array> {
    MultivariateNormal(Array loc, Array scale_tril)
        : Family(std::vector<Array>{std::move(loc), std::move(scale_tril)}) {}
};

// -- integers --

// 0 ... K - 1; the probabilities need not be normalised.
struct Categorical : Family<PPX_CATEGORICAL, 1, std::int64_t> {
    explicit Categorical(std::vector<double> probs) : Family(std::vector<Array>{Array(std::move(probs))}) {}
};

struct Poisson : Family<PPX_POISSON, 1, std::int64_t> {
    explicit Poisson(double rate) : Family(rate) {}
};

struct Bernoulli : Family<PPX_BERNOULLI, 1, std::int64_t> {
    explicit Bernoulli(double probs) : Family(probs) {}
};

struct Binomial : Family<PPX_BINOMIAL, 2, std::int64_t> {
    Binomial(double total_count, double probs) : Family(total_count, probs) {}
};

// Successes, each of probability `probs`, before `total_count` failures.
struct NegativeBinomial : Family<PPX_NEGATIVE_BINOMIAL, 2, std::int64_t> {
    NegativeBinomial(double total_count, double probs) : Family(total_count, probs) {}
};

// Counts of variance mean + mean^2 / concentration.
struct NegativeBinomial2 : Family<PPX_NEGATIVE_BINOMIAL_2, 2, std::int64_t> {
    NegativeBinomial2(double mean, double concentration) : Family(mean, concentration) {}
};

struct BetaBinomial : Family<PPX_BETA_BINOMIAL, 3, std::int64_t> {
    BetaBinomial(double concentration1, double concentration0, double total_count)
        : Family(concentration1, concentration0, total_count) {}
};

// Failures before the first success.
struct Geometric : Family<PPX_GEOMETRIC, 1, std::int64_t> {
    explicit Geometric(double probs) : Family(probs) {}
};

// Successes among `draws` taken, without putting back, from `population`, `successes` of which are such.
struct Hypergeometric : Family<PPX_HYPERGEOMETRIC, 3, std::int64_t> {
    Hypergeometric(double population, double successes, double draws) : Family(population, successes, draws) {}
};

// 0 with probability `gate`, else Poisson.
struct ZeroInflatedPoisson : Family<PPX_ZERO_INFLATED_POISSON, 2, std::int64_t> {
    ZeroInflatedPoisson(double gate, double rate) : Family(gate, rate) {}
};

// -- arrays of independent elements --

template <class Elements>
struct Each : Distribution {
    using Value = Array;
    explicit Each(Array a) : Each({std::move(a)}, Number<1>()) {}
    Each(Array a, Array b) : Each({std::move(a), std::move(b)}, Number<2>()) {}
    Each(Array a, Array b, Array c) : Each({std::move(a), std::move(b), std::move(c)}, Number<3>()) {}
    Each(Array a, Array b, Array c, Array d)
        : Each({std::move(a), std::move(b), std::move(c), std::move(d)}, Number<4>()) {}

private:
    template <int number>
    using Number = std::integral_constant<int, number>;

    template <int given>
    Each(std::vector<Array> parameters, Number<given>)
        : Distribution(Elements::number, std::move(parameters)) {
        static_assert(given == Elements::arity, "ppx::Each: the family has another number of parameters");
        static_assert(Elements::number != PPX_MIXTURE && Elements::number != PPX_MULTIVARIATE_NORMAL,
                      "ppx::Each: this family has no arrays of independent elements");
    }
};

} // namespace ppx

#endif

// The names of pyprob_cpp, the original front end of PPX for C++, over this one: a simulator instrumented for it
// compiles unchanged, with ppx::ppx and xtensor in place of pyprob_cpp.
//
// What is different: the server listens on 127.0.0.1 only unless startServer is told otherwise, stops on SIGTERM and
// SIGINT, and sends exceptions to the inference side; draws outside a server are silent and have the shape that draws
// inside have; setDefaultControl in a model holds until the end of the execution; there are no sentinel values. Like the
// original, values of one number have the shape {1}.

#ifndef PYPROB_CPP_H
#define PYPROB_CPP_H

#if __cplusplus < 201703L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 201703L)
#error "pyprob_cpp.h needs C++17: compile with -std=c++17 (CMake: target_compile_features(NAME PRIVATE cxx_std_17))."
#else // nothing else is compiled, so that this is the only error

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if !__has_include(<xtensor/xarray.hpp>)
#error "pyprob_cpp.h needs xtensor (Debian: libxtensor-dev). New simulators include ppx.hpp, which needs nothing."
#endif
#include <xtensor/xarray.hpp>
#include <xtensor/xio.hpp>

#include "ppx.hpp"

namespace pyprob_cpp {

namespace detail {

inline bool default_control = true; // of models that are served from now on

using Tensor = xt::xarray<double>;

// One number is a scalar, whatever its shape.
inline ppx::Array to_array(const Tensor &tensor) {
    if (tensor.size() == 1) return *tensor.begin();
    ppx::Array::Shape shape;
    for (const std::size_t dimension : tensor.shape()) shape.push_back(static_cast<std::int32_t>(dimension));
    return ppx::Array(std::vector<double>(tensor.begin(), tensor.end()), std::move(shape));
}

inline Tensor to_tensor(const ppx::Array &array) {
    std::vector<std::size_t> shape(array.shape().begin(), array.shape().end());
    if (shape.empty()) shape.push_back(1);
    Tensor tensor(shape);
    std::copy(array.begin(), array.end(), tensor.begin());
    return tensor;
}

} // namespace detail

// What draws come from outside a server: the thread's random stream. Also a generator for <random>.
class Generator {
public:
    using result_type = std::uint32_t;
    static constexpr result_type min() { return 0; }
    static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }
    void seed(std::uint64_t value = 0) { ppx::seed(value); }
    // In a server the inference side may send the upper end of the interval, which is one more than the largest number.
    result_type operator()() {
        const double number = ppx::sample(ppx::Uniform(0.0, 4294967296.0));
        return number > 0.0 ? static_cast<result_type>(std::min(number, 4294967295.0)) : 0;
    }
};

inline Generator generator;

namespace distributions {

// Any distribution: what the statements take.
class Distribution : public ppx::Distribution {
public:
    using Value = ppx::Array;

protected:
    Distribution(std::uint32_t family, std::vector<ppx::Array> parameters)
        : ppx::Distribution(family, std::move(parameters)) {}
};

using Tensor = pyprob_cpp::detail::Tensor;
using pyprob_cpp::detail::to_array;

class Uniform : public Distribution {
public:
    Uniform(Tensor low = Tensor{0}, Tensor high = Tensor{1})
        : Distribution(PPX_UNIFORM, {to_array(low), to_array(high)}) {}
};

class Normal : public Distribution {
public:
    Normal(Tensor mean = Tensor{0}, Tensor stddev = Tensor{1})
        : Distribution(PPX_NORMAL, {to_array(mean), to_array(stddev)}) {}
};

class Categorical : public Distribution {
public:
    // A single probability is a vector of one category.
    Categorical(Tensor probs = Tensor{1})
        : Distribution(PPX_CATEGORICAL, {probs.size() == 1 ? ppx::Array({*probs.begin()}) : to_array(probs)}) {}
};

class Poisson : public Distribution {
public:
    Poisson(Tensor rate = Tensor{0}) : Distribution(PPX_POISSON, {to_array(rate)}) {}
};

class Bernoulli : public Distribution {
public:
    Bernoulli(Tensor probs = Tensor{1}) : Distribution(PPX_BERNOULLI, {to_array(probs)}) {}
};

class Beta : public Distribution {
public:
    Beta(Tensor concentration1 = Tensor{0}, Tensor concentration0 = Tensor{1})
        : Distribution(PPX_BETA, {to_array(concentration1), to_array(concentration0)}) {}
};

class Exponential : public Distribution {
public:
    Exponential(Tensor rate = Tensor{0}) : Distribution(PPX_EXPONENTIAL, {to_array(rate)}) {}
};

class Gamma : public Distribution {
public:
    Gamma(Tensor concentration = Tensor{0}, Tensor rate = Tensor{1})
        : Distribution(PPX_GAMMA, {to_array(concentration), to_array(rate)}) {}
};

class LogNormal : public Distribution {
public:
    LogNormal(Tensor loc = Tensor{0}, Tensor scale = Tensor{1})
        : Distribution(PPX_LOG_NORMAL, {to_array(loc), to_array(scale)}) {}
};

class Binomial : public Distribution {
public:
    Binomial(Tensor total_count = Tensor{0}, Tensor probs = Tensor{1})
        : Distribution(PPX_BINOMIAL, {to_array(total_count), to_array(probs)}) {}
};

class Weibull : public Distribution {
public:
    Weibull(Tensor scale = Tensor{0}, Tensor concentration = Tensor{1})
        : Distribution(PPX_WEIBULL, {to_array(scale), to_array(concentration)}) {}
};

} // namespace distributions

// -- statements --
//
// The overloads for `const char *` are needed where a bool is one, too: a literal would become true.

PPX_STATEMENT xt::xarray<double> sample(const distributions::Distribution &distribution) {
    return detail::to_tensor(ppx::sample(distribution));
}
PPX_STATEMENT xt::xarray<double> sample(const distributions::Distribution &distribution, const std::string &name) {
    return detail::to_tensor(ppx::sample(distribution, name));
}
PPX_STATEMENT xt::xarray<double> sample(const distributions::Distribution &distribution, const char *name) {
    return detail::to_tensor(ppx::sample(distribution, name));
}
PPX_STATEMENT xt::xarray<double> sample(const distributions::Distribution &distribution, bool control,
                                        const std::string &name) {
    return detail::to_tensor(ppx::sample(distribution, ppx::Statement(name).control(control)));
}
PPX_STATEMENT xt::xarray<double> sample(const distributions::Distribution &distribution, bool control,
                                        const char *name = "") {
    return detail::to_tensor(ppx::sample(distribution, ppx::Statement(name).control(control)));
}

// Older releases had a third argument `replace`, which the protocol does not have any more.
PPX_STATEMENT xt::xarray<double> sample(const distributions::Distribution &distribution, bool control, bool,
                                        const std::string &name = "") {
    return detail::to_tensor(ppx::sample(distribution, ppx::Statement(name).control(control)));
}

PPX_STATEMENT void observe(const distributions::Distribution &distribution, const std::string &name) {
    ppx::observe(distribution, ppx::Statement(name));
}
PPX_STATEMENT void observe(const distributions::Distribution &distribution, const char *name) {
    ppx::observe(distribution, ppx::Statement(name));
}
PPX_STATEMENT void observe(const distributions::Distribution &distribution, const xt::xarray<double> &value,
                           const std::string &name = "") {
    ppx::observe(distribution, detail::to_array(value), name);
}

// Of numbers, so that 0 is one and no pointer.
template <class Number, std::enable_if_t<std::is_arithmetic_v<Number>, int> = 0>
PPX_STATEMENT void observe(const distributions::Distribution &distribution, Number value,
                           const std::string &name = "") {
    ppx::observe(distribution, ppx::Array(value), name);
}

PPX_STATEMENT void tag(const xt::xarray<double> &value, const std::string &name = "") {
    ppx::tag(detail::to_array(value), name);
}

// In a model until the end of the execution; before startServer for all executions.
inline void setDefaultControl(bool control = true) {
    if (ppx::connected()) ppx::set_default_control(control);
    else detail::default_control = control;
}
inline void setDefaultReplace(bool = false) {}

// -- serving --

class Model {
public:
    using Function = xt::xarray<double> (*)();

    Model(Function function, const std::string &modelName) : function_(function) {
        options_.name = modelName;
        options_.system_name = "pyprob_cpp (ppx)";
    }

    // Serves until it is told to stop. Throws ppx::Error if it cannot.
    void startServer(const std::string &serverAddress = ppx::default_endpoint) {
        options_.control = detail::default_control;
        ppx::serve(serverAddress, function_, options_);
    }

private:
    Function function_;
    ppx::Options options_;
};

} // namespace pyprob_cpp

template <>
struct ppx::AsArray<xt::xarray<double>> {
    static ppx::Array from(const xt::xarray<double> &value) { return pyprob_cpp::detail::to_array(value); }
};

#endif // C++17

#endif

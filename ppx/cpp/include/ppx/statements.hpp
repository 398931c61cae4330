// What a model says: sample, observe, tag, factor, and scopes around rejection loops.
//
// Inside a served model (serving.hpp) statements go to the inference side. Outside, sample draws from a random stream
// of the thread (see `seed`), and the others do nothing: the same program runs alone. The thread that runs a model is
// the only one whose statements belong to the execution.
//
// A statement throws Unwind when the execution is given up. It is no std::exception, and a model that catches
// everything must let it pass; if it does not, the next statement throws again.

#ifndef PPX_STATEMENTS_HPP
#define PPX_STATEMENTS_HPP

#include <cstdint>
#include <exception>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "array.hpp"
#include "distributions.hpp"
#include "statement.hpp"

// Statements are inlined everywhere, so that the frame from which the library is called is the user's, optimised or
// not.
#define PPX_STATEMENT __attribute__((always_inline)) inline

namespace ppx {

// Leaves the model because the execution was given up.
class Unwind {};

// Parameters outside a distribution's domain, outside a served model. (Inside one the execution fails and Unwind is
// thrown.)
class ParameterError : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

namespace detail {

PPX_OWN_FRAME double sample_number(const Distribution &distribution, const Statement &where);
PPX_OWN_FRAME std::int64_t sample_integer(const Distribution &distribution, const Statement &where);
PPX_OWN_FRAME Array sample_array(const Distribution &distribution, const Statement &where);

// `given` nullptr: the inference side has the value. True if the value that was used is known.
PPX_OWN_FRAME bool observe_number(const Distribution &distribution, const Statement &where, const double *given,
                                  double &known);
PPX_OWN_FRAME bool observe_integer(const Distribution &distribution, const Statement &where, const double *given,
                                   std::int64_t &known);
PPX_OWN_FRAME bool observe_array(const Distribution &distribution, const Statement &where, const Array *given,
                                 Array &known);
PPX_OWN_FRAME void observe_output(const Statement &where, const Array &value);

PPX_OWN_FRAME void tag_number(const Statement &where, double value);
PPX_OWN_FRAME void tag_array(const Statement &where, const Array &value);
PPX_OWN_FRAME void add_factor(const Statement &where, double log_factor);

PPX_OWN_FRAME Place find_place();

PPX_OWN_FRAME std::uint32_t begin_scope(const Statement &where);
void reject_scope(std::uint32_t scope);
void end_scope(std::uint32_t scope);

// Keeps the call before it from becoming a jump, which would take the caller's frame off the stack.
PPX_STATEMENT void stay() { __asm__ volatile(""); }

PPX_STATEMENT bool observe(const Distribution &distribution, const Statement &where, const double *given,
                           double &known) {
    return observe_number(distribution, where, given, known);
}
PPX_STATEMENT bool observe(const Distribution &distribution, const Statement &where, const double *given,
                           std::int64_t &known) {
    return observe_integer(distribution, where, given, known);
}
PPX_STATEMENT bool observe(const Distribution &distribution, const Statement &where, const Array *given, Array &known) {
    return observe_array(distribution, where, given, known);
}

template <class Value>
using Given = std::conditional_t<std::is_same_v<Value, Array>, Array, double>;

} // namespace detail

// A draw. Returns a double, an integer or an Array, as the distribution has it.
template <class AnyDistribution, class Value = typename AnyDistribution::Value>
PPX_STATEMENT Value sample(const AnyDistribution &distribution, const Statement &where = {}) {
    if constexpr (std::is_same_v<Value, double>) {
        const double value = detail::sample_number(distribution, where);
        detail::stay();
        return value;
    } else if constexpr (std::is_same_v<Value, Array>) {
        Array value = detail::sample_array(distribution, where);
        detail::stay();
        return value;
    } else {
        const std::int64_t value = detail::sample_integer(distribution, where);
        detail::stay();
        return value;
    }
}

// A quantity that is compared with data of the statement's name. Returns the value that was used, if it is known here:
// only the inference side knows it where executions are steered draw by draw.
template <class AnyDistribution, class Value = typename AnyDistribution::Value>
PPX_STATEMENT std::optional<Value> observe(const AnyDistribution &distribution, const Statement &where) {
    Value known{};
    const bool is_known = detail::observe(distribution, where, nullptr, known);
    detail::stay();
    return is_known ? std::optional<Value>(std::move(known)) : std::nullopt;
}

// The same with a value, which is used unless the inference side has data of this name. (Where executions are steered
// draw by draw it returns the given value, and is not told whether data won over it.)
template <class AnyDistribution, class Value = typename AnyDistribution::Value>
PPX_STATEMENT std::optional<Value> observe(const AnyDistribution &distribution, const detail::Given<Value> &value,
                                           const Statement &where = {}) {
    Value known{};
    const bool is_known = detail::observe(distribution, where, &value, known);
    detail::stay();
    return is_known ? std::optional<Value>(std::move(known)) : std::nullopt;
}

// An output that has no likelihood.
PPX_STATEMENT void observe(const Array &value, const Statement &where = {}) {
    detail::observe_output(where, value);
    detail::stay();
}

// Records a value; no effect on probability.
PPX_STATEMENT void tag(double value, const Statement &where = {}) {
    detail::tag_number(where, value);
    detail::stay();
}
PPX_STATEMENT void tag(const Array &value, const Statement &where = {}) {
    detail::tag_array(where, value);
    detail::stay();
}

// Adds `log_factor` (natural logarithm, below +inf) to the log density of the execution.
PPX_STATEMENT void factor(double log_factor, const Statement &where = {}) {
    detail::add_factor(where, log_factor);
    detail::stay();
}

// Where this is called from. A function that is called for every draw of a simulator keeps what it found out about a
// place under its number, and makes its statements there: `Statement().at(place)`.
PPX_STATEMENT Place place() {
    const Place found = detail::find_place();
    detail::stay();
    return found;
}

// Marks a loop that draws until a condition holds. Only the accepted pass becomes a part of the trace:
//
//     ppx::RejectionScope scope("disc");
//     while (!accepted(x = ppx::sample(uniform))) scope.reject();
//     scope.accept();
//
// The accepted pass ends, and the scope with it, at `accept`, or where the object ceases to be. Scopes nest: with a
// pass that is rejected, or a scope that ends, go the scopes that are still open inside.
class RejectionScope {
public:
    PPX_STATEMENT explicit RejectionScope(const Statement &where = {})
        : scope_(detail::begin_scope(where)), exceptions_(std::uncaught_exceptions()) {}
    ~RejectionScope() {
        if (std::uncaught_exceptions() == exceptions_) accept(); // else the execution has failed
    }
    RejectionScope(const RejectionScope &) = delete;
    RejectionScope &operator=(const RejectionScope &) = delete;

    // The pass that ends here is rejected; another begins.
    void reject() { detail::reject_scope(scope_); }

    // The pass that ends here is accepted.
    void accept() {
        if (is_open_) detail::end_scope(scope_);
        is_open_ = false;
    }

private:
    std::uint32_t scope_;
    int exceptions_;
    bool is_open_ = true;
};

PPX_STATEMENT RejectionScope rejection_scope(const Statement &where = {}) { return RejectionScope(where); }

// Whether draws that say nothing of it are controlled, until the end of the present execution: every execution begins
// with the model's default. Nothing outside a served model.
void set_default_control(bool control);

// Whether this thread runs a model whose statements go to an inference side.
bool connected();

// The random stream from which this thread draws outside a served model: PROTOCOL.md, section 11. Without this call,
// seed 0, and for every thread another index.
void seed(std::uint64_t seed, std::uint64_t index = 0);

} // namespace ppx

#endif

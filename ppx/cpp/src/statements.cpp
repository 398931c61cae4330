#include "ppx/statements.hpp"

#include <atomic>
#include <cmath>
#include <string>
#include <vector>

#include "execution.hpp"

namespace ppx {
namespace detail {
namespace {

thread_local Execution *current = nullptr;

// -- outside a served model --

struct LocalStream {
    LocalStream() {
        static std::atomic<std::uint64_t> threads{0};
        ppx_stream_start(&stream, 0, threads++, 0);
    }
    ppx_stream stream;
};

ppx_stream &local_stream() {
    thread_local LocalStream local;
    return local.stream;
}

Array draw_locally(const Distribution &distribution) {
    const DistributionView view(distribution);
    char error[512];
    std::int32_t shape[16];
    std::uint32_t dimensions = 0;
    std::size_t size = 0;
    if (ppx_check(view.get(), error, sizeof error) != PPX_OK) throw ParameterError(error);
    if (ppx_value_shape(view.get(), shape, &dimensions, &size) != PPX_OK)
        throw ParameterError("the shapes of the parameters do not fit each other");
    std::vector<double> data(size);
    ppx_draw(&local_stream(), view.get(), data.data());
    return Array(std::move(data), Array::Shape(shape, shape + dimensions));
}

double draw_number_locally(const Distribution &distribution) {
    const DistributionView view(distribution);
    char error[512];
    if (ppx_check(view.get(), error, sizeof error) != PPX_OK) throw ParameterError(error);
    double value;
    ppx_draw(&local_stream(), view.get(), &value);
    return value;
}

// -- inside --

// Leaves the model, unless an exception is on its way already: a destructor that makes a statement must not throw.
void give_up(Execution &execution) {
    execution.given_up = true;
    if (std::uncaught_exceptions() == 0) throw Unwind();
}

ppx_statement statement(Execution &execution, const Statement &where, const Frame &caller) {
    const std::string_view name = where.name();
    const bool control = where.control().value_or(execution.control);
    return {execution.addresses.find(where, caller), control, name.data(), name.size()};
}

std::size_t size_of(const ppx_tensor &tensor) {
    std::size_t size = 1;
    for (std::uint32_t i = 0; i < tensor.dimensions; ++i) size *= static_cast<std::size_t>(tensor.shape[i]);
    return size;
}

std::string describe(const Statement &where) {
    return where.name().empty() ? std::string("a statement") : "'" + std::string(where.name()) + "'";
}

double as_number(const ppx_tensor &value, const Statement &where) {
    if (!value.data) return std::nan("");
    const std::size_t size = size_of(value);
    if (size != 1)
        throw std::length_error("the value of " + describe(where) + " is " + std::to_string(size) + " numbers");
    return *value.data;
}

// Cut towards zero, as pyprob_cpp's users cast: data of a count may be an average (4.37), whose density is the inference
// side's business.
std::int64_t as_integer(double number, const Statement &where) {
    if (!(std::abs(number) <= 9007199254740992.0))
        throw std::domain_error("the value of " + describe(where) + " is " + std::to_string(number) + ", no integer");
    return static_cast<std::int64_t>(number);
}

Array as_array(const ppx_tensor &value) {
    return Array(std::vector<double>(value.data, value.data + size_of(value)),
                 Array::Shape(value.shape, value.shape + value.dimensions));
}

// What a statement gives a destructor to which it cannot throw: NaN, in the distribution's shape if it has one.
Array unknown(const Distribution &distribution) {
    const DistributionView view(distribution);
    std::int32_t shape[16];
    std::uint32_t dimensions = 0;
    std::size_t size = 1;
    if (ppx_value_shape(view.get(), shape, &dimensions, &size) != PPX_OK) return Array(std::nan(""));
    return Array(std::vector<double>(size, std::nan("")), Array::Shape(shape, shape + dimensions));
}

ppx_tensor as_tensor(const double &number) { return {&number, nullptr, 0}; }

ppx_tensor sample(Execution &execution, const Distribution &distribution, const Statement &where, const Frame &caller) {
    const DistributionView view(distribution);
    const ppx_statement place = statement(execution, where, caller);
    ppx_tensor value{};
    if (ppx_sample(execution.session, &place, view.get(), &value) != PPX_OK) {
        give_up(execution);
        value = {};
    }
    return value;
}

ppx_tensor observe(Execution &execution, const Distribution *distribution, const Statement &where, const Frame &caller,
                   const ppx_tensor *given) {
    const ppx_statement place = statement(execution, where, caller);
    ppx_tensor known{};
    int code;
    if (distribution) {
        const DistributionView view(*distribution);
        code = ppx_observe(execution.session, &place, view.get(), given, &known);
    } else {
        code = ppx_observe(execution.session, &place, nullptr, given, &known);
    }
    if (code != PPX_OK) {
        give_up(execution);
        known = {};
    }
    return known;
}

void tag(Execution &execution, const Statement &where, const Frame &caller, const ppx_tensor &value) {
    const ppx_statement place = statement(execution, where, caller);
    if (ppx_tag(execution.session, &place, &value) != PPX_OK) give_up(execution);
}

constexpr std::uint32_t no_scope = 0xffffffff;

} // namespace

Running::Running(Execution *execution) : before_(current) { current = execution; }
Running::~Running() { current = before_; }

// These are called by the user's function, whose frame is where addresses end: they must be functions of their own.

double sample_number(const Distribution &distribution, const Statement &where) {
    const Frame caller = calling_frame();
    if (!current) return draw_number_locally(distribution);
    return as_number(sample(*current, distribution, where, caller), where);
}

std::int64_t sample_integer(const Distribution &distribution, const Statement &where) {
    const Frame caller = calling_frame();
    if (!current) return as_integer(draw_number_locally(distribution), where);
    const ppx_tensor value = sample(*current, distribution, where, caller);
    return value.data ? as_integer(as_number(value, where), where) : 0;
}

Array sample_array(const Distribution &distribution, const Statement &where) {
    const Frame caller = calling_frame();
    if (!current) return draw_locally(distribution);
    const ppx_tensor value = sample(*current, distribution, where, caller);
    return value.data ? as_array(value) : unknown(distribution);
}

bool observe_number(const Distribution &distribution, const Statement &where, const double *given, double &known) {
    const Frame caller = calling_frame();
    if (!current) {
        if (given) known = *given;
        return given;
    }
    const ppx_tensor tensor = given ? as_tensor(*given) : ppx_tensor{};
    const ppx_tensor value = observe(*current, &distribution, where, caller, given ? &tensor : nullptr);
    if (value.data) known = as_number(value, where);
    return value.data;
}

bool observe_integer(const Distribution &distribution, const Statement &where, const double *given,
                     std::int64_t &known) {
    const Frame caller = calling_frame();
    double number = 0.0;
    bool is_known = given;
    if (!current) {
        if (given) number = *given;
    } else {
        const ppx_tensor tensor = given ? as_tensor(*given) : ppx_tensor{};
        const ppx_tensor value = observe(*current, &distribution, where, caller, given ? &tensor : nullptr);
        is_known = value.data;
        if (is_known) number = as_number(value, where);
    }
    if (is_known) known = as_integer(number, where);
    return is_known;
}

bool observe_array(const Distribution &distribution, const Statement &where, const Array *given, Array &known) {
    const Frame caller = calling_frame();
    if (!current) {
        if (given) known = *given;
        return given;
    }
    const ppx_tensor tensor = given ? given->tensor() : ppx_tensor{};
    const ppx_tensor value = observe(*current, &distribution, where, caller, given ? &tensor : nullptr);
    if (value.data) known = as_array(value);
    return value.data;
}

void observe_output(const Statement &where, const Array &value) {
    const Frame caller = calling_frame();
    if (!current) return;
    const ppx_tensor tensor = value.tensor();
    observe(*current, nullptr, where, caller, &tensor);
}

void tag_number(const Statement &where, double value) {
    const Frame caller = calling_frame();
    if (current) tag(*current, where, caller, as_tensor(value));
}

void tag_array(const Statement &where, const Array &value) {
    const Frame caller = calling_frame();
    if (current) tag(*current, where, caller, value.tensor());
}

void add_factor(const Statement &where, double log_factor) {
    const Frame caller = calling_frame();
    if (!current) return;
    const ppx_statement place = statement(*current, where, caller);
    if (ppx_factor(current->session, &place, log_factor) != PPX_OK) give_up(*current);
}

Place find_place() {
    const Frame caller = calling_frame();
    return current ? current->addresses.place(caller) : Place();
}

std::uint32_t begin_scope(const Statement &where) {
    const Frame caller = calling_frame();
    if (!current) return no_scope;
    const ppx_statement place = statement(*current, where, caller);
    std::uint32_t scope = no_scope;
    if (ppx_scope_begin(current->session, &place, &scope) != PPX_OK) give_up(*current);
    return scope;
}

void reject_scope(std::uint32_t scope) {
    if (current && scope != no_scope && ppx_scope_reject(current->session, scope) != PPX_OK) give_up(*current);
}

// Called by a destructor: if it fails, the next statement says so.
void end_scope(std::uint32_t scope) {
    if (current && scope != no_scope) ppx_scope_end(current->session, scope);
}

} // namespace detail

void set_default_control(bool control) {
    if (detail::current) detail::current->control = control;
}

bool connected() { return detail::current; }

void seed(std::uint64_t seed, std::uint64_t index) { ppx_stream_start(&detail::local_stream(), seed, index, 0); }

} // namespace ppx

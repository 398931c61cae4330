// What a statement is called and where it stands.
//
//     ppx::sample(distribution, "mu");                                  // a name, the address from the call stack
//     ppx::sample(distribution, ppx::here("mu"));                       // file:function:line as its address
//     ppx::sample(distribution, ppx::Statement("mu").at("tau:px"));     // an address of the author's
//     ppx::sample(distribution, ppx::Statement().uncontrolled());       // a nuisance: nothing is proposed for it
//     ppx::sample(distribution, ppx::Statement().at(ppx::place()));     // a place that was looked at before

#ifndef PPX_STATEMENT_HPP
#define PPX_STATEMENT_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ppx {

// The call stack at which `ppx::place()` stands (statements.hpp). For a hook through which all draws of a simulator
// come: what is drawn, and whether it is controlled, may depend on who asks.
struct Place {
    std::uint32_t number = 0;  // the same for equal stacks; numbers are small. 0: outside a served model
    std::string_view address;  // as a statement's; holds until the execution ends
};

// Made where it is used, in the call of the statement: it refers to the texts and does not keep them.
class Statement {
public:
    Statement() = default;
    Statement(const char *name) : name_(name ? name : "") {}
    Statement(std::string_view name) : name_(name) {}
    Statement(const std::string &name) : name_(name) {}

    // The address, in place of the call stack. It must be the same in every execution and process.
    Statement &at(std::string_view address) {
        address_ = address;
        return *this;
    }

    // A call stack that is known already is not walked again.
    Statement &at(const Place &place) {
        place_ = place.number;
        return *this;
    }

    // `file:function:line` as the address: stable over rebuilds with other compilers and flags, the same for all
    // callers of the function. The texts must be literals.
    Statement &at(const char *file, const char *function, int line) {
        file_ = file;
        function_ = function;
        line_ = line;
        return *this;
    }

    // Of a draw: whether inference may propose a value for it. The default is that of the model.
    Statement &control(bool control) {
        control_ = control;
        return *this;
    }
    Statement &uncontrolled() { return control(false); }

    std::string_view name() const { return name_; }
    const std::optional<std::string_view> &address() const { return address_; }
    const char *file() const { return file_; } // nullptr: not by place in the source
    const char *function() const { return function_; }
    int line() const { return line_; }
    std::uint32_t place() const { return place_; } // 0: none
    std::optional<bool> control() const { return control_; }

private:
    std::string_view name_;
    std::optional<std::string_view> address_;
    const char *file_ = nullptr;
    const char *function_ = nullptr;
    int line_ = 0;
    std::uint32_t place_ = 0;
    std::optional<bool> control_;
};

// A statement whose address is the place in the source where `here` is written.
inline Statement here(std::string_view name = {}, const char *file = __builtin_FILE(),
                      const char *function = __builtin_FUNCTION(), int line = __builtin_LINE()) {
    return Statement(name).at(file, function, line);
}

} // namespace ppx

#endif

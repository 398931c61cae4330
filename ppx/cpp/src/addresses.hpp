// Addresses: where in the program a statement stands, as text, and the numbers that the session has for the texts.

#ifndef PPX_ADDRESSES_HPP
#define PPX_ADDRESSES_HPP

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "call_stack.hpp"
#include "hashing.hpp"
#include "modules.hpp"
#include "ppx.h"
#include "ppx/statement.hpp"

namespace ppx::detail {

// The texts of call stacks: `[outermost; ...; innermost]`, each frame `function+0xoffset`, where the offset is that of
// the return address from the function's beginning. Where a function has no symbol the offset is counted from its
// module: `libdecay.so+0x51a20`. Frames of the C and C++ libraries (qsort, ...) are left out: with those, addresses
// would change with the system.
//
// A sequence of at most 16 frames that stands at least three times in a row is written once: `flips(double)+0x2a x9`,
// `(even(int)+0x1f; odd(int)+0x1f) x12`. Recursions of different depth have different addresses, and that of a million
// frames is as long as that of three. A text longer than 8,000 bytes keeps its ends, and has a hash in the middle.
class StackTexts {
public:
    std::string text(const std::vector<std::uintptr_t> &innermost_first);

    // Forgets what it knew, if modules were loaded or unloaded since the last call; whether it was so.
    bool refresh();

private:
    const std::string &frame(std::uintptr_t return_address); // "": to be left out

    Modules modules_;
    std::unordered_map<std::uintptr_t, std::string> frames_;
};

// The addresses of a session, each number looked up by a hash of what its text is made of.
class Addresses {
public:
    // Frames of the functions `outside` are no part of the model.
    Addresses(ppx_session *session, const std::vector<const void *> &outside);

    // To be called before an execution.
    void refresh();

    // The number of the statement's address, whose function's frame is `caller`.
    std::uint32_t find(const Statement &where, const Frame &caller);

    // The call stack of the function whose frame is `caller`.
    Place place(const Frame &caller);

    // Makes libgcc unwind, to compare.
    void use_only_libgcc() { stack_.use_only_libgcc(); }

private:
    struct Known {
        Hash key;
        std::uint32_t number = 0;
        bool used = false;
        const std::string *text = nullptr; // of stacks
    };

    const Known &of_stack(const Frame &caller);
    std::uint32_t of_source(const Statement &where);
    std::uint32_t intern(std::string_view text);
    Known &slot(const Hash &key);
    const Known &add(const Hash &key, std::uint32_t number, const std::string *text = nullptr);

    ppx_session *session_;
    CallStack stack_;
    StackTexts texts_;
    std::deque<std::string> kept_; // texts of stacks
    std::vector<Known> known_; // open addressing; the size is a power of two
    std::size_t num_known_ = 0;
};

// `file:function:line`, of the file the last part only: builds in other folders have the same addresses.
std::string source_text(const Statement &where);

} // namespace ppx::detail

#endif

// The call stack of a running model, as return addresses from a statement outwards. What addresses.hpp stands on.
//
// Unwinding with libgcc costs 1.5 us and 0.1 us for every frame, too much for every draw of a simulator that makes
// hundreds in an event. On x86-64 each return address's rule for leaving its frame, which the compiler wrote into
// .eh_frame, is therefore read once and kept, and a frame costs a few nanoseconds afterwards. Frame pointers would not
// do: other people's libraries have none. Where a rule is not of the usual kind, and on other processors, libgcc
// unwinds.

#ifndef PPX_CALL_STACK_HPP
#define PPX_CALL_STACK_HPP

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ppx::detail {

// Where unwinding begins: the frame of the function that called the library.
struct Frame {
    std::uintptr_t return_address; // in the function
    std::uintptr_t stack_pointer;  // of the function, when the call has returned
    std::uintptr_t frame_pointer;  // the register's content then
};

// The frame of the caller of the function in which this is written.
__attribute__((always_inline)) inline Frame calling_frame() {
    // The frame address is where the caller's frame pointer was saved.
    return {reinterpret_cast<std::uintptr_t>(__builtin_return_address(0)),
            reinterpret_cast<std::uintptr_t>(__builtin_dwarf_cfa()),
            *static_cast<std::uintptr_t *>(__builtin_frame_address(0))};
}

// How to get from a frame to the next, by the return address in it.
struct FrameRule {
    enum Kind : std::uint8_t {
        Unknown,            // not read yet
        FromStackPointer,   // the caller's stack pointer (CFA) is the stack pointer + offset,
        FromFramePointer,   //   the frame pointer + offset,
        ThroughFramePointer, //  what stands at the frame pointer + offset
        Outside,            // the frame is no part of the model: the stack ends before it
        End,                // there is no further frame
        Unusual             // libgcc must unwind
    };
    enum Saved : std::uint8_t { Kept, AtCfa, AtFramePointer }; // where the caller's frame pointer is

    std::uintptr_t return_address = 0;
    std::int32_t offset = 0;
    std::int32_t saved_offset = 0;
    Kind kind = Unknown;
    Saved saved = Kept;
};

class CallStack {
public:
    CallStack();

    // Frames of this function, and all outside it, are no part of the model.
    void add_outside(const void *function);

    // The return addresses from `innermost` outwards. The reference holds until the next call.
    const std::vector<std::uintptr_t> &unwind(const Frame &innermost);

    // Forgets the rules, which hold for the modules that are loaded.
    void forget();

    // Makes libgcc unwind always, to compare; whether the last stack could be unwound without it.
    void use_only_libgcc() { only_libgcc_ = true; }
    bool knew_the_way() const { return knew_the_way_; }

private:
    const FrameRule &rule(std::uintptr_t return_address);
    FrameRule &slot(std::uintptr_t return_address);
    bool is_outside(std::uintptr_t function) const;
    bool unwind_by_rules(const Frame &innermost);
    void unwind_by_libgcc(std::uintptr_t innermost);

    std::vector<std::uintptr_t> frames_;
    std::vector<FrameRule> rules_; // open addressing by return address; the size is a power of two
    std::size_t num_rules_ = 0;
    std::vector<std::uintptr_t> outside_;
    bool only_libgcc_ = false, knew_the_way_ = false;
};

} // namespace ppx::detail

#endif

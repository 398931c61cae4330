// Reads from .eh_frame how to leave a frame: the part of DWARF's call frame information that compilers use between
// prologue and epilogue.

#ifndef PPX_FRAME_RULES_HPP
#define PPX_FRAME_RULES_HPP

#include "call_stack.hpp"

namespace ppx::detail {

// The rule for the frame into which `return_address` points, and the address of its function (0 if it is not known).
FrameRule read_frame_rule(std::uintptr_t return_address, std::uintptr_t &function);

} // namespace ppx::detail

#endif

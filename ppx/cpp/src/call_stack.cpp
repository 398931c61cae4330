#include "call_stack.hpp"

#include <unwind.h>

#include <algorithm>

#include "frame_rules.hpp"

namespace ppx::detail {
namespace {

constexpr std::size_t first_size = 256;

std::size_t hash(std::uintptr_t address) { return (address * 0x9E3779B97F4A7C15u) >> 20; }

std::uintptr_t load(std::uintptr_t address) { return *reinterpret_cast<const std::uintptr_t *>(address); }

std::uintptr_t moved(std::uintptr_t address, std::int32_t offset) {
    return address + static_cast<std::uintptr_t>(static_cast<std::intptr_t>(offset));
}

} // namespace

CallStack::CallStack() : rules_(first_size) {}

void CallStack::add_outside(const void *function) {
    outside_.push_back(reinterpret_cast<std::uintptr_t>(function));
    forget();
}

void CallStack::forget() {
    rules_.assign(first_size, FrameRule());
    num_rules_ = 0;
}

bool CallStack::is_outside(std::uintptr_t function) const {
    return std::find(outside_.begin(), outside_.end(), function) != outside_.end();
}

FrameRule &CallStack::slot(std::uintptr_t return_address) {
    std::size_t at = hash(return_address);
    for (;; ++at) {
        FrameRule &found = rules_[at & (rules_.size() - 1)];
        if (found.return_address == return_address || found.kind == FrameRule::Unknown) return found;
    }
}

const FrameRule &CallStack::rule(std::uintptr_t return_address) {
    FrameRule &found = slot(return_address);
    if (found.kind != FrameRule::Unknown) return found;
    if (2 * ++num_rules_ > rules_.size()) {
        std::vector<FrameRule> old(2 * rules_.size());
        old.swap(rules_);
        for (const FrameRule &rule : old)
            if (rule.kind != FrameRule::Unknown) slot(rule.return_address) = rule;
    }
    FrameRule &added = slot(return_address);
    std::uintptr_t function = 0;
    added = read_frame_rule(return_address, function);
    if (function && is_outside(function)) added.kind = FrameRule::Outside;
    return added;
}

const std::vector<std::uintptr_t> &CallStack::unwind(const Frame &innermost) {
    knew_the_way_ = !only_libgcc_ && unwind_by_rules(innermost);
    if (!knew_the_way_) unwind_by_libgcc(innermost.return_address);
    return frames_;
}

bool CallStack::unwind_by_rules(const Frame &innermost) {
    std::uintptr_t address = innermost.return_address, stack = innermost.stack_pointer, frame = innermost.frame_pointer;
    frames_.clear();
    for (;;) {
        const FrameRule &leave = rule(address);
        std::uintptr_t caller; // its stack pointer
        switch (leave.kind) {
        case FrameRule::FromStackPointer: caller = moved(stack, leave.offset); break;
        case FrameRule::FromFramePointer: caller = moved(frame, leave.offset); break;
        case FrameRule::ThroughFramePointer: caller = load(moved(frame, leave.offset)); break;
        case FrameRule::Outside: return true;
        case FrameRule::End: frames_.push_back(address); return true;
        default: return false;
        }
        if (caller <= stack) return false; // stacks grow downwards: this is none
        frames_.push_back(address);
        if (leave.saved == FrameRule::AtCfa) frame = load(moved(caller, leave.saved_offset));
        else if (leave.saved == FrameRule::AtFramePointer) frame = load(moved(frame, leave.saved_offset));
        address = load(caller - sizeof(std::uintptr_t));
        stack = caller;
        if (!address) return true;
    }
}

namespace {

struct Walk {
    std::vector<std::uintptr_t> &frames;
    const std::vector<std::uintptr_t> &outside;
    std::uintptr_t innermost; // 0 once it was met
};

_Unwind_Reason_Code step(_Unwind_Context *context, void *pointer) {
    auto &walk = *static_cast<Walk *>(pointer);
    const std::uintptr_t address = _Unwind_GetIP(context);
    if (!address) return _URC_END_OF_STACK;
    if (walk.innermost && address != walk.innermost) return _URC_NO_REASON; // a frame of the library
    walk.innermost = 0;
    const auto function = static_cast<std::uintptr_t>(_Unwind_GetRegionStart(context));
    if (std::find(walk.outside.begin(), walk.outside.end(), function) != walk.outside.end()) return _URC_END_OF_STACK;
    walk.frames.push_back(address);
    return _URC_NO_REASON;
}

} // namespace

void CallStack::unwind_by_libgcc(std::uintptr_t innermost) {
    frames_.clear();
    Walk walk{frames_, outside_, innermost};
    _Unwind_Backtrace(step, &walk);
}

} // namespace ppx::detail

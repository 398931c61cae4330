#include "addresses.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace ppx::detail {
namespace {

constexpr std::size_t longest_cycle = 16;
constexpr std::size_t repeats_to_collapse = 3;
constexpr std::size_t longest_text = 8000;
constexpr std::size_t longest_name = 1000;

// Printable ASCII as it is, all other bytes as \xhh: addresses must be UTF-8, whatever symbols and files are called.
std::string as_ascii(std::string_view name) {
    static const char digits[] = "0123456789abcdef";
    std::string text;
    for (const char letter : name) {
        const auto byte = static_cast<unsigned char>(letter);
        if (byte >= 0x20 && byte < 0x7f) {
            text += letter;
        } else {
            text += "\\x";
            text += digits[byte >> 4];
            text += digits[byte & 15];
        }
    }
    return text;
}

// A text of at most about `limit` bytes that is another one for every text: its ends, and a hash of it between them.
std::string shortened(const std::string &text, std::size_t limit) {
    if (text.size() <= limit) return text;
    Hash hash;
    hash.add(text);
    return text.substr(0, limit / 2) + " ...#" + hash.hexadecimal() + "... " + text.substr(text.size() - limit / 2);
}

std::string demangled(const std::string &symbol) {
    int status = -1;
    char *text = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
    std::string name = status == 0 && text ? text : symbol;
    std::free(text);
    return shortened(as_ascii(name), longest_name);
}

std::string with_offset(const std::string &name, std::uint64_t offset) {
    static const char digits[] = "0123456789abcdef";
    std::string number;
    do number.insert(number.begin(), digits[offset & 15]);
    while (offset >>= 4);
    return name + "+0x" + number;
}

// How often the `period` frames from `begin` on stand there, one after the other.
std::size_t count_repeats(const std::vector<const std::string *> &frames, std::size_t begin, std::size_t period) {
    std::size_t at = begin + period;
    while (at < frames.size() && frames[at] == frames[at - period]) ++at; // one place, one string
    return (at - begin) / period;
}

} // namespace

const std::string &StackTexts::frame(std::uintptr_t return_address) {
    const auto found = frames_.find(return_address);
    if (found != frames_.end()) return found->second;
    std::string text = "?"; // code that was made at run time
    const std::uintptr_t inside = return_address - 1; // a call may be the last instruction of its function
    if (Module *module = modules_.find(inside)) {
        if (module->is_runtime()) return frames_.emplace(return_address, "").first->second;
        const Symbol *symbol = module->find(inside);
        text = symbol ? with_offset(demangled(symbol->name), return_address - module->base - symbol->begin)
                      : with_offset(shortened(as_ascii(module->name), longest_name), return_address - module->base);
    }
    return frames_.emplace(return_address, std::move(text)).first->second;
}

std::string StackTexts::text(const std::vector<std::uintptr_t> &innermost_first) {
    std::vector<const std::string *> frames;
    for (auto address = innermost_first.rbegin(); address != innermost_first.rend(); ++address) {
        const std::string &text = frame(*address);
        if (!text.empty()) frames.push_back(&text);
    }
    std::string text = "[";
    std::size_t at = 0;
    while (at < frames.size()) {
        std::size_t period = 1, repeats = 1;
        const std::size_t longest = std::min(longest_cycle, (frames.size() - at) / repeats_to_collapse);
        for (std::size_t tried = 1; tried <= longest; ++tried) {
            const std::size_t found = count_repeats(frames, at, tried);
            if (found < repeats_to_collapse) continue;
            period = tried;
            repeats = found;
            break;
        }
        if (at) text += "; ";
        if (period > 1) text += "(";
        for (std::size_t i = 0; i < period; ++i) {
            if (i) text += "; ";
            text += *frames[at + i];
        }
        if (period > 1) text += ")";
        if (repeats > 1) text += " x" + std::to_string(repeats);
        at += period * repeats;
    }
    return shortened(text + "]", longest_text);
}

bool StackTexts::refresh() {
    if (!modules_.changed()) return false;
    frames_.clear();
    return true;
}

std::string source_text(const Statement &where) {
    const std::string_view file = where.file();
    const std::size_t slash = file.find_last_of("/\\");
    return std::string(slash == file.npos ? file : file.substr(slash + 1)) + ":" + where.function() + ":" +
           std::to_string(where.line());
}

Addresses::Addresses(ppx_session *session, const std::vector<const void *> &outside) : session_(session), known_(256) {
    for (const void *function : outside) stack_.add_outside(function);
    texts_.refresh();
}

void Addresses::refresh() {
    if (!texts_.refresh()) return;
    stack_.forget();
    kept_.clear();
    known_.assign(256, Known());
    num_known_ = 0;
}

std::uint32_t Addresses::intern(std::string_view text) { return ppx_address(session_, text.data(), text.size()); }

Addresses::Known &Addresses::slot(const Hash &key) {
    for (std::size_t at = key.a;; ++at) {
        Known &found = known_[at & (known_.size() - 1)];
        if (!found.used || found.key == key) return found;
    }
}

const Addresses::Known &Addresses::add(const Hash &key, std::uint32_t number, const std::string *text) {
    if (2 * ++num_known_ > known_.size()) {
        std::vector<Known> old(2 * known_.size());
        old.swap(known_);
        for (const Known &known : old)
            if (known.used) slot(known.key) = known;
    }
    return slot(key) = {key, number, true, text};
}

std::uint32_t Addresses::find(const Statement &where, const Frame &caller) {
    if (where.place()) return where.place();
    if (where.address()) return intern(*where.address());
    return where.file() ? of_source(where) : of_stack(caller).number;
}

Place Addresses::place(const Frame &caller) {
    const Known &known = of_stack(caller);
    return {known.number, *known.text};
}

const Addresses::Known &Addresses::of_stack(const Frame &caller) {
    const std::vector<std::uintptr_t> &frames = stack_.unwind(caller);
    Hash key;
    for (const std::uintptr_t address : frames) key.add(address);
    Known &known = slot(key);
    if (known.used) return known;
    kept_.push_back(texts_.text(frames));
    return add(key, intern(kept_.back()), &kept_.back());
}

std::uint32_t Addresses::of_source(const Statement &where) {
    Hash key;
    key.add(reinterpret_cast<std::uintptr_t>(where.file()));
    key.add(reinterpret_cast<std::uintptr_t>(where.function()));
    key.add(static_cast<std::uint64_t>(where.line()));
    key.add(std::string_view("source"));
    Known &known = slot(key);
    if (known.used) return known.number;
    const std::uint32_t number = intern(source_text(where));
    add(key, number);
    return number;
}

} // namespace ppx::detail

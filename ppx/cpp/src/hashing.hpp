// 128-bit hashes: of call stacks, texts and files. Not for anything that an adversary may choose.

#ifndef PPX_HASHING_HPP
#define PPX_HASHING_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace ppx::detail {

struct Hash {
    std::uint64_t a = 0x243F6A8885A308D3, b = 0x13198A2E03707344;

    void add(std::uint64_t value) {
        a = mixed(a ^ value, 0x9E3779B97F4A7C15);
        b = mixed(b + value, 0xD1342543DE82EF95) ^ a;
    }

    void add(std::string_view text) {
        add(text.size());
        std::size_t at = 0;
        std::uint64_t word = 0;
        for (; at + 8 <= text.size(); at += 8) {
            std::memcpy(&word, text.data() + at, 8);
            add(word);
        }
        word = 0;
        if (at < text.size()) std::memcpy(&word, text.data() + at, text.size() - at);
        add(word);
    }

    std::string hexadecimal() const {
        static const char digits[] = "0123456789abcdef";
        std::string text;
        for (std::uint64_t word : {a, b})
            for (int shift = 60; shift >= 0; shift -= 4) text += digits[(word >> shift) & 15];
        return text;
    }

    friend bool operator==(const Hash &x, const Hash &y) { return x.a == y.a && x.b == y.b; }

private:
    // Both halves of the product, so that every bit of the value reaches every bit of the hash in two steps.
    static std::uint64_t mixed(std::uint64_t value, std::uint64_t factor) {
#ifdef __SIZEOF_INT128__
        __extension__ using Wide = unsigned __int128;
        const Wide product = static_cast<Wide>(value) * factor;
        return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64) ^ (value >> 32);
#else
        value *= factor;
        return value ^ (value >> 29);
#endif
    }
};

} // namespace ppx::detail

#endif

#include "frame_rules.hpp"

#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)

// What libgcc's unwinder uses itself to find the description of a function's frames.
extern "C" {
struct ppx_eh_bases {
    void *text, *data, *function;
};
const void *_Unwind_Find_FDE(void *address, ppx_eh_bases *bases);
}

namespace ppx::detail {
namespace {

constexpr std::uint64_t frame_pointer = 6, stack_pointer = 7, return_column = 16; // DWARF's numbers of the registers

class Reader {
public:
    explicit Reader(const std::uint8_t *at) : at_(at) {}

    const std::uint8_t *at() const { return at_; }
    void skip(std::uint64_t size) { at_ += size; }

    template <class Number>
    Number read() {
        Number value;
        std::memcpy(&value, at_, sizeof value);
        at_ += sizeof value;
        return value;
    }

    std::uint64_t unsigned_leb() { return leb(false); }
    std::int64_t signed_leb() { return static_cast<std::int64_t>(leb(true)); }

    void skip_pointer(std::uint8_t encoding) { skip(pointer_size(encoding)); }

    // Of a pointer in one of DWARF's encodings; 0: of no fixed size.
    static std::uint8_t pointer_size(std::uint8_t encoding) {
        static constexpr std::uint8_t sizes[16] = {8, 0, 2, 4, 8, 0, 0, 0, 8, 0, 2, 4, 8, 0, 0, 0};
        return sizes[encoding & 0x0f];
    }

private:
    // Seven bits a byte, the lowest first; the last byte has its highest bit unset, and below it the sign.
    std::uint64_t leb(bool is_signed) {
        std::uint64_t value = 0;
        std::uint8_t byte;
        unsigned shift = 0;
        do {
            byte = read<std::uint8_t>();
            if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
            shift += 7;
        } while (byte & 0x80);
        if (is_signed && shift < 64 && (byte & 0x40)) value |= ~std::uint64_t{0} << shift;
        return value;
    }

    const std::uint8_t *at_;
};

// A length, which says where the entry ends.
const std::uint8_t *read_end(Reader &reader) {
    std::uint64_t length = reader.read<std::uint32_t>();
    if (length == 0xffffffff) length = reader.read<std::uint64_t>();
    return reader.at() + length;
}

// What all functions of a compilation unit share.
struct Common {
    std::uint64_t code_alignment = 1;
    std::int64_t data_alignment = 1;
    std::uint8_t pointer_encoding = 0;
    bool has_augmentation = false;
    const std::uint8_t *instructions = nullptr, *end = nullptr;
};

bool read_common(const std::uint8_t *entry, Common &common) {
    Reader reader(entry);
    common.end = read_end(reader);
    reader.skip(4);
    const auto version = reader.read<std::uint8_t>();
    const char *augmentation = reinterpret_cast<const char *>(reader.at());
    reader.skip(std::strlen(augmentation) + 1);
    if (version == 4) reader.skip(2);
    common.code_alignment = reader.unsigned_leb();
    common.data_alignment = reader.signed_leb();
    if ((version == 1 ? reader.read<std::uint8_t>() : reader.unsigned_leb()) != return_column) return false;
    if (*augmentation == 'z') {
        const std::uint64_t size = reader.unsigned_leb();
        common.has_augmentation = true;
        common.instructions = reader.at() + size;
        for (const char *letter = augmentation + 1; *letter; ++letter) {
            if (*letter == 'R') common.pointer_encoding = reader.read<std::uint8_t>();
            else if (*letter == 'L') reader.skip(1);
            else if (*letter == 'P') reader.skip_pointer(reader.read<std::uint8_t>());
            else return false; // 'S': the frame of a signal handler's caller
        }
        return true;
    }
    common.instructions = reader.at();
    return *augmentation == 0;
}

// Where the caller's stack pointer, frame pointer and return address are, at one place of a function.
struct State {
    enum Cfa : std::uint8_t { Register, Through, OtherCfa } cfa = Register;
    enum Saved : std::uint8_t { Same, AtCfa, AtFramePointer, OtherSaved, Undefined } frame = Same, address = AtCfa;
    std::uint64_t cfa_register = stack_pointer;
    std::int64_t cfa_offset = 8, frame_offset = 0, address_offset = -8;
};

// `base register + offset`, with or without a load afterwards: the expressions that compilers write for frames whose
// stack pointer was aligned.
bool read_expression(Reader &reader, bool load, std::int64_t &offset) {
    const std::uint64_t size = reader.unsigned_leb();
    const std::uint8_t *end = reader.at() + size;
    Reader expression(reader.at());
    reader.skip(size);
    if (size < 2 || expression.read<std::uint8_t>() != 0x70 + frame_pointer) return false;
    offset = expression.signed_leb();
    if (load && (expression.at() >= end || expression.read<std::uint8_t>() != 0x06)) return false;
    return expression.at() == end;
}

class Program {
public:
    explicit Program(const Common &common) : common_(common) {}

    // Follows instructions up to the place `until`, which is counted from the function's beginning.
    bool run(const std::uint8_t *instructions, const std::uint8_t *end, std::uint64_t until) {
        Reader reader(instructions);
        std::uint64_t place = 0;
        while (reader.at() < end && place < until) {
            const auto byte = reader.read<std::uint8_t>();
            const std::uint8_t low = byte & 0x3f;
            switch (byte >> 6) {
            case 1: place += low * common_.code_alignment; continue;
            case 2: saved(low, static_cast<std::int64_t>(reader.unsigned_leb()) * common_.data_alignment); continue;
            case 3: restore(low); continue;
            default: break;
            }
            if (!step(reader, low, place)) return false;
        }
        return true;
    }

    void keep_initial() { initial_ = state; }

    State state;

private:
    bool step(Reader &reader, std::uint8_t operation, std::uint64_t &place) {
        std::uint64_t number;
        switch (operation) {
        case 0x00: return true;                                                                 // nop
        case 0x02: place += reader.read<std::uint8_t>() * common_.code_alignment; return true;  // advance_loc1
        case 0x03: place += reader.read<std::uint16_t>() * common_.code_alignment; return true; // advance_loc2
        case 0x04: place += reader.read<std::uint32_t>() * common_.code_alignment; return true; // advance_loc4
        case 0x05:                                                                              // offset_extended
            number = reader.unsigned_leb();
            saved(number, static_cast<std::int64_t>(reader.unsigned_leb()) * common_.data_alignment);
            return true;
        case 0x06: restore(reader.unsigned_leb()); return true;          // restore_extended
        case 0x07: rule(reader.unsigned_leb(), State::Undefined); return true; // undefined
        case 0x08: rule(reader.unsigned_leb(), State::Same); return true;      // same_value
        case 0x09:                                                       // register
            rule(reader.unsigned_leb(), State::OtherSaved);
            reader.unsigned_leb();
            return true;
        case 0x0a: // remember_state
            if (depth_ == sizeof stack_ / sizeof *stack_) return false;
            stack_[depth_++] = state;
            return true;
        case 0x0b: // restore_state
            if (!depth_) return false;
            state = stack_[--depth_];
            return true;
        case 0x0c: // def_cfa
            number = reader.unsigned_leb();
            define(number, static_cast<std::int64_t>(reader.unsigned_leb()));
            return true;
        case 0x0d: define(reader.unsigned_leb(), state.cfa_offset); return true;         // def_cfa_register
        case 0x0e: state.cfa_offset = static_cast<std::int64_t>(reader.unsigned_leb()); return true; // def_cfa_offset
        case 0x0f: // def_cfa_expression
            state.cfa = read_expression(reader, true, state.cfa_offset) ? State::Through : State::OtherCfa;
            return true;
        case 0x10: { // expression
            number = reader.unsigned_leb();
            std::int64_t offset = 0;
            const bool usual = read_expression(reader, false, offset);
            rule(number, usual ? State::AtFramePointer : State::OtherSaved, offset);
            return true;
        }
        case 0x11: // offset_extended_sf
            number = reader.unsigned_leb();
            saved(number, reader.signed_leb() * common_.data_alignment);
            return true;
        case 0x12: // def_cfa_sf
            number = reader.unsigned_leb();
            define(number, reader.signed_leb() * common_.data_alignment);
            return true;
        case 0x13: state.cfa_offset = reader.signed_leb() * common_.data_alignment; return true; // def_cfa_offset_sf
        case 0x14: // val_offset
            rule(reader.unsigned_leb(), State::OtherSaved);
            reader.unsigned_leb();
            return true;
        case 0x15: // val_offset_sf
            rule(reader.unsigned_leb(), State::OtherSaved);
            reader.signed_leb();
            return true;
        case 0x16: // val_expression
            rule(reader.unsigned_leb(), State::OtherSaved);
            reader.skip(reader.unsigned_leb());
            return true;
        case 0x2e: reader.unsigned_leb(); return true; // GNU_args_size
        default: return false;
        }
    }

    void define(std::uint64_t number, std::int64_t offset) {
        state.cfa = number == stack_pointer || number == frame_pointer ? State::Register : State::OtherCfa;
        state.cfa_register = number;
        state.cfa_offset = offset;
    }

    void rule(std::uint64_t number, State::Saved how, std::int64_t offset = 0) {
        if (number == frame_pointer) {
            state.frame = how;
            state.frame_offset = offset;
        } else if (number == return_column) {
            state.address = how;
            state.address_offset = offset;
        }
    }

    void saved(std::uint64_t number, std::int64_t offset) { rule(number, State::AtCfa, offset); }

    void restore(std::uint64_t number) {
        if (number == frame_pointer) rule(number, initial_.frame, initial_.frame_offset);
        else if (number == return_column) rule(number, initial_.address, initial_.address_offset);
    }

    const Common &common_;
    State initial_, stack_[16];
    std::size_t depth_ = 0;
};

FrameRule as_rule(const State &state, FrameRule rule) {
    rule.kind = FrameRule::Unusual;
    if (state.address == State::Undefined) {
        rule.kind = FrameRule::End;
        return rule;
    }
    if (state.address != State::AtCfa || state.address_offset != -8) return rule;
    if (state.frame == State::OtherSaved || state.cfa == State::OtherCfa) return rule;
    if (state.cfa_offset != static_cast<std::int32_t>(state.cfa_offset)) return rule;
    if (state.frame_offset != static_cast<std::int32_t>(state.frame_offset)) return rule;
    rule.saved = state.frame == State::AtCfa            ? FrameRule::AtCfa
                 : state.frame == State::AtFramePointer ? FrameRule::AtFramePointer
                                                        : FrameRule::Kept;
    rule.offset = static_cast<std::int32_t>(state.cfa_offset);
    rule.saved_offset = static_cast<std::int32_t>(state.frame_offset);
    rule.kind = state.cfa == State::Through                 ? FrameRule::ThroughFramePointer
                : state.cfa_register == stack_pointer ? FrameRule::FromStackPointer
                                                            : FrameRule::FromFramePointer;
    return rule;
}

} // namespace

FrameRule read_frame_rule(std::uintptr_t return_address, std::uintptr_t &function) {
    FrameRule rule;
    rule.return_address = return_address;
    rule.kind = FrameRule::End;
    function = 0;
    ppx_eh_bases bases{};
    // A call may be the last instruction of its function: one byte before is surely inside.
    const void *found = _Unwind_Find_FDE(reinterpret_cast<void *>(return_address - 1), &bases);
    if (!found) return rule;
    function = reinterpret_cast<std::uintptr_t>(bases.function);

    rule.kind = FrameRule::Unusual;
    Reader reader(static_cast<const std::uint8_t *>(found));
    const std::uint8_t *end = read_end(reader);
    const std::uint8_t *link = reader.at();
    Common common;
    if (!read_common(link - reader.read<std::int32_t>(), common)) return rule;
    if (!Reader::pointer_size(common.pointer_encoding)) return rule;
    for (int i = 0; i < 2; ++i) reader.skip_pointer(common.pointer_encoding); // the function's beginning and length
    if (common.has_augmentation) reader.skip(reader.unsigned_leb());

    Program program(common);
    if (!program.run(common.instructions, common.end, 1)) return rule;
    program.keep_initial();
    if (!program.run(reader.at(), end, return_address - function)) return rule;
    return as_rule(program.state, rule);
}

} // namespace ppx::detail

#else

namespace ppx::detail {

FrameRule read_frame_rule(std::uintptr_t return_address, std::uintptr_t &function) {
    FrameRule rule;
    rule.return_address = return_address;
    rule.kind = FrameRule::Unusual;
    function = 0;
    return rule;
}

} // namespace ppx::detail

#endif

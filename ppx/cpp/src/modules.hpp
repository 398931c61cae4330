// The program and the libraries that it has loaded: which one an address lies in, what its functions are called, and
// what identifies its build. Names come from the symbol tables of the file itself (.symtab, then .dynsym), so that
// static functions have one and -rdynamic is not needed.

#ifndef PPX_MODULES_HPP
#define PPX_MODULES_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ppx::detail {

struct Symbol {
    std::uint64_t begin, end; // from the module's base
    std::string name;         // as the linker has it
};

class Module {
public:
    std::string path;     // of the file
    std::string name;     // its last part
    std::string build_id; // hexadecimal; "" if the linker wrote none
    std::uintptr_t base = 0, begin = 0, end = 0;

    // Whether it is a library of the system: the C or C++ library, or the transport. An update of these is not to look
    // like another simulator: they are left out of addresses and of the build id.
    bool is_runtime() const;

    // The function in which `address` lies; nullptr if it has no symbol.
    const Symbol *find(std::uintptr_t address);

private:
    bool is_read_ = false;
    std::vector<Symbol> symbols_; // by address, not overlapping
};

class Modules {
public:
    // The module in which `address` lies; nullptr if in none.
    Module *find(std::uintptr_t address);

    // Whether modules were loaded or unloaded since the last call. What was known of them is forgotten then.
    bool changed();

private:
    std::vector<std::unique_ptr<Module>> modules_;
    std::uint64_t loaded_ = 0, unloaded_ = 0;
};

// What changes when the program or a library that it has loaded does, those of the system apart: 32 hexadecimal digits.
std::string program_build_id();

} // namespace ppx::detail

#endif

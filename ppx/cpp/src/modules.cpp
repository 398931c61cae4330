#include "modules.hpp"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "hashing.hpp"

namespace ppx::detail {
namespace {

// A file's bytes, mapped. Empty if it cannot be read.
class File {
public:
    explicit File(const std::string &path) {
        const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        struct stat status;
        if (descriptor >= 0 && fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
            const auto size = static_cast<std::size_t>(status.st_size);
            void *data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
            if (data != MAP_FAILED) bytes_ = {static_cast<const char *>(data), size};
        }
        if (descriptor >= 0) close(descriptor);
    }
    ~File() {
        if (!bytes_.empty()) munmap(const_cast<char *>(bytes_.data()), bytes_.size());
    }
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    std::string_view bytes() const { return bytes_; }

    // `count` structures at `offset`; nullptr if they do not lie in the file.
    template <class Structure>
    const Structure *at(std::uint64_t offset, std::uint64_t count = 1) const {
        if (offset > bytes_.size() || count > (bytes_.size() - offset) / sizeof(Structure)) return nullptr;
        if (offset % alignof(Structure)) return nullptr;
        return reinterpret_cast<const Structure *>(bytes_.data() + offset);
    }

private:
    std::string_view bytes_;
};

std::string as_hexadecimal(const unsigned char *bytes, std::size_t size) {
    static const char digits[] = "0123456789abcdef";
    std::string text;
    for (std::size_t i = 0; i < size; ++i) {
        text += digits[bytes[i] >> 4];
        text += digits[bytes[i] & 15];
    }
    return text;
}

// The build id among notes; "" if it is not there.
std::string find_build_id(const unsigned char *notes, std::size_t size) {
    std::size_t at = 0;
    while (size - at >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) note;
        std::memcpy(&note, notes + at, sizeof note);
        at += sizeof note;
        const std::uint64_t name = (std::uint64_t{note.n_namesz} + 3) & ~std::uint64_t{3};
        const std::uint64_t text = (std::uint64_t{note.n_descsz} + 3) & ~std::uint64_t{3};
        if (name + text > size - at) break;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(notes + at, "GNU", 4) == 0)
            return as_hexadecimal(notes + at + name, note.n_descsz);
        at += static_cast<std::size_t>(name + text);
    }
    return "";
}

std::string file_build_id(const File &file, const ElfW(Ehdr) & header) {
    const auto *segments = file.at<ElfW(Phdr)>(header.e_phoff, header.e_phnum);
    for (unsigned i = 0; segments && i < header.e_phnum; ++i) {
        if (segments[i].p_type != PT_NOTE) continue;
        const auto *notes = file.at<unsigned char>(segments[i].p_offset, segments[i].p_filesz);
        std::string found = notes ? find_build_id(notes, segments[i].p_filesz) : "";
        if (!found.empty()) return found;
    }
    return "";
}

void read_symbols(const File &file, const ElfW(Shdr) & section, const ElfW(Shdr) & names,
                  std::vector<Symbol> &symbols) {
    const std::size_t count = section.sh_size / sizeof(ElfW(Sym));
    const auto *table = file.at<ElfW(Sym)>(section.sh_offset, count);
    const auto *texts = file.at<char>(names.sh_offset, names.sh_size);
    if (!table || !texts || !names.sh_size || texts[names.sh_size - 1]) return;
    for (std::size_t i = 0; i < count; ++i) {
        const ElfW(Sym) &symbol = table[i];
        const unsigned type = symbol.st_info & 15u;
        if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol.st_shndx == SHN_UNDEF || !symbol.st_size) continue;
        if (symbol.st_name >= names.sh_size) continue;
        symbols.push_back({symbol.st_value, symbol.st_value + symbol.st_size, texts + symbol.st_name});
    }
}

// The functions of a file, by address. One place may have several names: the first in the alphabet stands for it. Only
// what lies in the file that is loaded is believed: it may have been replaced since.
std::vector<Symbol> read_functions(const std::string &path, const std::string &build_id) {
    std::vector<Symbol> symbols;
    File file(path);
    const auto *header = file.at<ElfW(Ehdr)>(0);
    if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return symbols;
    if (file_build_id(file, *header) != build_id) return symbols;
    const auto *sections = file.at<ElfW(Shdr)>(header->e_shoff, header->e_shnum);
    for (const unsigned wanted : {SHT_SYMTAB, SHT_DYNSYM})
        for (unsigned i = 0; sections && symbols.empty() && i < header->e_shnum; ++i)
            if (sections[i].sh_type == wanted && sections[i].sh_link < header->e_shnum)
                read_symbols(file, sections[i], sections[sections[i].sh_link], symbols);
    std::sort(symbols.begin(), symbols.end(), [](const Symbol &x, const Symbol &y) {
        return x.begin != y.begin ? x.begin < y.begin : x.end != y.end ? x.end > y.end : x.name < y.name;
    });
    std::vector<Symbol> kept;
    for (Symbol &symbol : symbols)
        if (kept.empty() || symbol.begin >= kept.back().end) kept.push_back(std::move(symbol));
    return kept;
}

// Calls `visit(info)` for every module until it returns true.
template <class Visit>
void for_each_module(Visit visit) {
    const auto pass = [](dl_phdr_info *info, std::size_t, void *pointer) {
        return (*static_cast<Visit *>(pointer))(*info) ? 1 : 0;
    };
    dl_iterate_phdr(pass, &visit);
}

Module describe(const dl_phdr_info &info) {
    Module module;
    module.base = info.dlpi_addr;
    module.path = info.dlpi_name && *info.dlpi_name ? info.dlpi_name : "/proc/self/exe";
    module.begin = ~std::uintptr_t{0};
    for (unsigned i = 0; i < info.dlpi_phnum; ++i) {
        const ElfW(Phdr) &segment = info.dlpi_phdr[i];
        const std::uintptr_t begin = info.dlpi_addr + segment.p_vaddr;
        if (segment.p_type == PT_LOAD) {
            module.begin = std::min(module.begin, begin);
            module.end = std::max(module.end, begin + segment.p_memsz);
        } else if (segment.p_type == PT_NOTE && module.build_id.empty()) {
            module.build_id = find_build_id(reinterpret_cast<const unsigned char *>(begin), segment.p_memsz);
        }
    }
    return module;
}

std::string last_part(const std::string &path) { return path.substr(path.rfind('/') + 1); }

std::string program_path() {
    char text[4096];
    const ssize_t size = readlink("/proc/self/exe", text, sizeof text);
    return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : "";
}

// The program's own file is reached through /proc even if it was deleted or replaced; its name is that of its link.
void name_module(Module &module) {
    module.name = last_part(module.path == "/proc/self/exe" ? program_path() : module.path);
    const std::size_t mark = module.name.rfind(" (deleted)");
    if (mark != std::string::npos) module.name.resize(mark);
}

bool contains(const std::vector<std::string> &texts, const std::string &text) {
    return std::find(texts.begin(), texts.end(), text) != texts.end();
}

// The names of the libraries that a module was linked to.
std::vector<std::string> needed_libraries(const dl_phdr_info &info) {
    std::vector<std::string> names;
    const ElfW(Dyn) *dynamic = nullptr;
    for (unsigned i = 0; i < info.dlpi_phnum; ++i)
        if (info.dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = reinterpret_cast<const ElfW(Dyn) *>(info.dlpi_addr + info.dlpi_phdr[i].p_vaddr);
    std::uintptr_t texts = 0;
    for (const ElfW(Dyn) *entry = dynamic; entry && entry->d_tag != DT_NULL; ++entry)
        if (entry->d_tag == DT_STRTAB) texts = entry->d_un.d_ptr;
    if (texts && texts < info.dlpi_addr) texts += info.dlpi_addr; // the loader has not moved it
    for (const ElfW(Dyn) *entry = dynamic; texts && entry->d_tag != DT_NULL; ++entry)
        if (entry->d_tag == DT_NEEDED) names.emplace_back(reinterpret_cast<const char *>(texts + entry->d_un.d_val));
    return names;
}

} // namespace

bool Module::is_runtime() const {
    static const char *const prefixes[] = {"ld-",   "libc.",       "libm.",      "libmvec.",   "libdl.",
                                           "librt.", "libpthread.", "libstdc++.", "libgcc_s.", "libzmq."};
    for (const char *prefix : prefixes)
        if (name.compare(0, std::strlen(prefix), prefix) == 0) return true;
    return false;
}

const Symbol *Module::find(std::uintptr_t address) {
    if (!is_read_) {
        symbols_ = read_functions(path, build_id);
        is_read_ = true;
    }
    const std::uint64_t place = address - base;
    auto after = std::upper_bound(symbols_.begin(), symbols_.end(), place,
                                  [](std::uint64_t value, const Symbol &symbol) { return value < symbol.begin; });
    if (after == symbols_.begin() || place >= (after - 1)->end) return nullptr;
    return &*(after - 1);
}

Module *Modules::find(std::uintptr_t address) {
    for (const auto &module : modules_)
        if (address >= module->begin && address < module->end) return module.get();
    Module *found = nullptr;
    for_each_module([&](const dl_phdr_info &info) {
        Module module = describe(info);
        if (address < module.begin || address >= module.end) return false;
        name_module(module);
        modules_.push_back(std::make_unique<Module>(std::move(module)));
        found = modules_.back().get();
        return true;
    });
    return found;
}

bool Modules::changed() {
    bool result = false;
    for_each_module([&](const dl_phdr_info &info) {
        result = info.dlpi_adds != loaded_ || info.dlpi_subs != unloaded_;
        loaded_ = info.dlpi_adds;
        unloaded_ = info.dlpi_subs;
        return true;
    });
    if (result) modules_.clear();
    return result;
}

std::string program_build_id() {
    struct Loaded {
        std::string name, build_id;
        std::vector<std::string> needed;
        bool is_runtime;
    };
    std::vector<Loaded> all;
    const std::uintptr_t kernel = getauxval(AT_SYSINFO_EHDR); // of the module that the kernel brings
    for_each_module([&](const dl_phdr_info &info) {
        Module module = describe(info);
        if (kernel >= module.begin && kernel < module.end) return false;
        if (module.build_id.empty()) {
            Hash contents;
            contents.add(File(module.path).bytes());
            module.build_id = contents.hexadecimal();
        }
        name_module(module);
        all.push_back({module.name, module.build_id, needed_libraries(info), module.is_runtime()});
        return false;
    });
    // What only the runtime needs belongs to it.
    for (std::size_t i = 0; i < all.size(); ++i)
        for (std::size_t j = 0; all[i].is_runtime && j < all.size(); ++j)
            if (!all[j].is_runtime && contains(all[i].needed, all[j].name)) {
                all[j].is_runtime = true;
                i = 0;
            }
    std::vector<std::string> parts;
    for (const Loaded &module : all)
        if (!module.is_runtime) parts.push_back(module.build_id);
    std::sort(parts.begin(), parts.end()); // libraries may be loaded in any order
    Hash hash;
    for (const std::string &part : parts) hash.add(part);
    return hash.hexadecimal();
}

} // namespace ppx::detail

// Unwinds by the rules of frames and by libgcc from many kinds of frames and compares; the test compiles it with
// several options. Prints one line for each kind, and how many stacks were compared.

#include <alloca.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <vector>

#include "call_stack.hpp"

using ppx::detail::CallStack;
using ppx::detail::Frame;

namespace {

CallStack rules, libgcc;
int compared = 0, different = 0, by_libgcc = 0;
volatile int zero = 0;

__attribute__((noinline)) void check() {
    const Frame caller = ppx::detail::calling_frame();
    const std::vector<std::uintptr_t> found = rules.unwind(caller), expected = libgcc.unwind(caller);
    ++compared;
    if (!rules.knew_the_way()) ++by_libgcc;
    if (found == expected) return;
    ++different;
    std::printf("different: %zu and %zu frames\n", found.size(), expected.size());
}

#define SEPARATE __attribute__((noinline))

SEPARATE int plain(int n) {
    check();
    return n + zero;
}

SEPARATE int many_registers(int a, int b, int c, int d, int e, int f, int g, int h) {
    int x = plain(a), y = plain(b), z = plain(c);
    check();
    return x * y + z * d + e * f + g * h + plain(h);
}

SEPARATE int variable_size(int n) {
    auto *memory = static_cast<volatile char *>(alloca(static_cast<std::size_t>(n * 16 + 1)));
    memory[0] = 1;
    check();
    return memory[0] + (n ? variable_size(n - 1) : plain(n));
}

SEPARATE int aligned(int n) {
    alignas(64) volatile double numbers[8] = {};
    numbers[n % 8] = n;
    check();
    return static_cast<int>(numbers[n % 8]) + (n ? aligned(n - 1) : variable_size(3));
}

SEPARATE int aligned_and_variable(int n) {
    alignas(128) volatile double numbers[4] = {};
    auto *memory = static_cast<volatile char *>(alloca(static_cast<std::size_t>(n + 1)));
    memory[n] = 1;
    check();
    return static_cast<int>(numbers[0]) + memory[n] + aligned(2);
}

int compare(const void *a, const void *b) {
    check();
    return *static_cast<const int *>(a) - *static_cast<const int *>(b);
}

SEPARATE int through_the_c_library() {
    int numbers[] = {3, 1, 2};
    std::qsort(numbers, 3, sizeof *numbers, compare);
    return numbers[0];
}

SEPARATE int through_templates() {
    std::vector<int> numbers{5, 3, 1, 2, 4};
    std::sort(numbers.begin(), numbers.end(), [](int a, int b) {
        check();
        return a < b;
    });
    const std::function<int(int)> function = [](int n) { return plain(n) + through_the_c_library(); };
    return function(numbers[0]);
}

SEPARATE int thrower(int n) {
    check();
    if (n == 0) throw std::runtime_error("from below");
    return thrower(n - 1) + 1;
}

SEPARATE int with_exceptions() {
    try {
        return thrower(3);
    } catch (const std::exception &) {
        check();
        return plain(1);
    }
}

struct Base {
    virtual ~Base() { check(); }
    virtual int call(int n) {
        check();
        return n;
    }
};

struct Derived : Base {
    int call(int n) override { return Base::call(n) + plain(n); }
};

SEPARATE int with_objects() {
    Derived derived;
    Base &base = derived;
    return base.call(2);
}

[[noreturn]] SEPARATE void never_returns() {
    check(); // the call may be the last instruction of the function
    throw 1;
}

SEPARATE int recursion(int n) {
    if (n % 1000 == 0) check();
    return n ? recursion(n - 1) + zero : plain(n);
}

SEPARATE int entry(int (*function)()) {
    const int result = function();
    __asm__ volatile("");
    return result;
}

void run(const char *name, int (*function)()) {
    compared = different = by_libgcc = 0;
    entry(function);
    std::printf("%s: %d compared, %d different, %d by libgcc\n", name, compared, different, by_libgcc);
}

} // namespace

int main() {
    rules.add_outside(reinterpret_cast<const void *>(&entry));
    libgcc.add_outside(reinterpret_cast<const void *>(&entry));
    libgcc.use_only_libgcc();
    run("plain", [] { return plain(1); });
    run("registers", [] { return many_registers(1, 2, 3, 4, 5, 6, 7, 8); });
    run("variable size", [] { return variable_size(5); });
    run("aligned", [] { return aligned(5); });
    run("aligned and variable", [] { return aligned_and_variable(5); });
    run("C library", [] { return through_the_c_library(); });
    run("templates", [] { return through_templates(); });
    run("exceptions", [] { return with_exceptions(); });
    run("objects", [] { return with_objects(); });
    run("recursion", [] { return recursion(10000); });
    run("never returns", [] {
        try {
            never_returns();
        } catch (int) {
            check();
        }
        return 0;
    });
}

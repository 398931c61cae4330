// What an address costs: nanoseconds for each draw, by the depth of the call stack.
//
//     make build
//     sources="-I ppx/cpp/include -I ppx/cpp/src benchmarks/ppx/address_cost.cpp"
//     c++ -std=c++17 -O2 $sources build/cpp/libppx.a build/cpp/libppx_core.a -lzmq -o build/address_cost
//     build/address_cost
//
// "table" is the front end's way (rules of frames read once, a table of known stacks); "libgcc" unwinds the same stacks
// with _Unwind_Backtrace and looks them up in the same table; "first" is the first time that a stack is met, when its
// text is made.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "addresses.hpp"
#include "ppx.h"

using namespace ppx::detail;
using Clock = std::chrono::steady_clock;

namespace {

double nanoseconds(Clock::duration duration) { return std::chrono::duration<double, std::nano>(duration).count(); }

__attribute__((noinline)) std::uint32_t draw(Addresses &addresses) {
    const Frame caller = calling_frame();
    return addresses.find(ppx::Statement(), caller);
}

// A frame of some size that keeps a register, as real functions do.
template <int variant>
__attribute__((noinline)) double descend(int depth, int repeats, Addresses &addresses) {
    volatile char padding[16 + 24 * variant];
    padding[depth % 16] = 1;
    double result;
    if (depth > 0) {
        result = depth % 3 ? descend<(variant + 1) % 4>(depth - 1, repeats, addresses)
                           : descend<(variant + 3) % 4>(depth - 1, repeats, addresses);
    } else {
        const Clock::time_point start = Clock::now();
        std::uint32_t sum = 0;
        for (int i = 0; i < repeats; ++i) sum += draw(addresses);
        result = nanoseconds(Clock::now() - start) / repeats + (sum == 1 ? 1e-9 : 0.0);
    }
    return padding[depth % 16] ? result : 0.0;
}

__attribute__((noinline)) double entry(int depth, int repeats, Addresses &addresses) {
    const double result = descend<0>(depth, repeats, addresses);
    __asm__ volatile("");
    return result;
}

double least(int depth, int repeats, Addresses &addresses) {
    double best = 1e300;
    for (int attempt = 0; attempt < 7; ++attempt) {
        const double time = entry(depth, repeats, addresses);
        best = time < best ? time : best;
    }
    return best;
}

} // namespace

int main() {
    char error[512];
    ppx_session *session = ppx_open("inproc://address-cost", nullptr, error, sizeof error);
    if (!session) {
        std::fprintf(stderr, "%s\n", error);
        return 1;
    }
    const std::vector<const void *> outside{reinterpret_cast<const void *>(&entry)};
    std::printf("frames   table    libgcc     first (ns)\n");
    for (int depth : {0, 2, 5, 10, 20, 40, 100, 1000, 10000}) {
        Addresses table(session, outside), libgcc(session, outside);
        libgcc.use_only_libgcc();
        const int repeats = 200000 / (depth + 10);
        const double first = entry(depth, 1, table);
        const double known = least(depth, repeats, table), unwound = least(depth, repeats, libgcc);
        std::printf("%6d %7.0f %9.0f %9.0f\n", depth + 1, known, unwound, first);
    }
    ppx_close(session);
    return EXIT_SUCCESS;
}

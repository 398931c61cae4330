// A simulator whose start is dear and leaves marks. Usage: forks ENDPOINT [threads] [child] [open] [heavy].
//
// PPX_TEST_STARTS names a file to which every start adds a byte. PPX_TEST_MARKER names one that is not there until an
// execution, the first whose first draw is above 1, has died of a segmentation fault. `threads`: another thread runs.
// `child`: every execution starts a process that sleeps. `open`: the front end is made before the start has ended.
// `heavy`: the start fills 50 MB and computes for a quarter of a second (for benchmarks).

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include <ppx.hpp>

namespace {

bool starts_child = false, is_heavy = false;
std::vector<double> table;

double scattered() {
    const double x = ppx::sample(ppx::Normal(0.0, 1.0), "x");
    const char *marker = std::getenv("PPX_TEST_MARKER");
    if (marker && x > 1.0 && access(marker, F_OK)) {
        std::fclose(std::fopen(marker, "w"));
        std::fprintf(stderr, "the calorimeter is on fire\n");
        std::raise(SIGSEGV);
    }
    if (starts_child && fork() == 0) {
        execlp("sleep", "sleep", "1000", static_cast<char *>(nullptr));
        _exit(1);
    }
    const double y = ppx::sample(ppx::Normal(x + table[100], 1.0), "y");
    ppx::observe(ppx::Normal(y, 1.0), "data");
    return x + y;
}

void start_dearly() {
    if (const char *starts = std::getenv("PPX_TEST_STARTS")) {
        std::FILE *file = std::fopen(starts, "a");
        std::fputc('.', file);
        std::fclose(file);
    }
    std::printf("the tables are read"); // and not written yet
    table.assign(is_heavy ? 50'000'000 / sizeof(double) : 1 << 20, 0.0);
    if (is_heavy) {
        const auto computed = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
        while (computed() < 0.25) table[1000] += 1.0;
    }
}

} // namespace

int main(int argc, char **argv) {
    bool has_threads = false, is_early = false;
    for (int i = 2; i < argc; ++i) {
        has_threads = has_threads || std::strcmp(argv[i], "threads") == 0;
        starts_child = starts_child || std::strcmp(argv[i], "child") == 0;
        is_heavy = is_heavy || std::strcmp(argv[i], "heavy") == 0;
        is_early = is_early || std::strcmp(argv[i], "open") == 0;
    }
    if (is_early) {
        ppx::FrontEnd front_end(scattered, argv[1]);
        start_dearly();
        front_end.serve();
        return 0;
    }
    start_dearly();
    if (has_threads) std::thread([] { for (;;) sleep(1); }).detach();
    return ppx::serve(2, argv, scattered, "scattered");
}

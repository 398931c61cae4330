// Two models, served by two threads of one process, and a third thread that draws by itself. Usage: threads ENDPOINT
// ENDPOINT

#include <atomic>
#include <cmath>
#include <cstdio>
#include <thread>

#include <ppx.hpp>

namespace {

double first() {
    const double x = ppx::sample(ppx::Normal(1.0, 1.0), "first");
    ppx::tag(ppx::connected(), "connected");
    return x;
}

double second() {
    double sum = 0.0;
    for (int i = 0; i < 10; ++i) sum += ppx::sample(ppx::Uniform(0.0, 1.0), "second");
    return sum;
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    ppx::Options options;
    ppx::FrontEnd one(first, argv[1], options);
    try {
        ppx::FrontEnd(second, argv[2], options);
        return 3;
    } catch (const ppx::Error &error) {
        std::printf("%s\n", error.what());
    }
    options.stop_on_signals = false;
    ppx::FrontEnd two(second, argv[2], options);
    std::atomic<bool> stop{false};
    std::thread serving([&two] { two.serve(); });
    std::thread drawing([&stop] {
        while (!stop && std::isfinite(ppx::sample(ppx::Normal(0.0, 1.0)))) std::this_thread::yield();
    });
    std::printf("serving\n");
    std::fflush(stdout);
    one.serve();
    two.stop();
    stop = true;
    serving.join();
    drawing.join();
    std::printf("%d\n", ppx::connected());
}

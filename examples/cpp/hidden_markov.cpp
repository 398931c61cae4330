// A hidden Markov model of three states and sixteen steps; returns the states.

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include <ppx.hpp>

constexpr std::size_t num_steps = 16;

std::array<double, num_steps> hidden_markov() {
    static const std::vector<double> start{1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0};
    static const std::vector<double> moves[] = {{0.1, 0.5, 0.4}, {0.2, 0.2, 0.6}, {0.15, 0.15, 0.7}};
    static const double means[] = {-1.0, 1.0, 0.0};
    std::array<double, num_steps> states{};
    std::vector<double> probs = start;
    for (std::size_t step = 0; step < num_steps; ++step) {
        const std::string number = std::to_string(step);
        const auto state = static_cast<std::size_t>(ppx::sample(ppx::Categorical(probs), "x" + number));
        ppx::observe(ppx::Normal(means[state], 1.0), "y" + number);
        probs = moves[state];
        states[step] = static_cast<double>(state);
    }
    return states;
}

int main(int argc, char **argv) { return ppx::serve(argc, argv, hidden_markov, "hidden_markov"); }

// An existing simulator, inverted without a change to it: its random number generator is replaced by one that asks ppx.
//
// The simulator, written years ago by people who had never heard of inference, is in namespace `legacy`. It draws from
// an exchangeable generator, as most do. Every number that it draws becomes a latent variable, known by the call stack
// that led to the draw.

#include <cmath>

#include <ppx.hpp>

namespace legacy {

class Generator {
public:
    virtual ~Generator() = default;
    virtual double uniform() = 0;
};

// A particle walks through layers of a detector and loses energy in them. Returns how deep it came.
int walk(Generator &random, double energy) {
    int layer = 0;
    while (energy > 0.1 && layer < 50) {
        const double lost = -0.2 * std::log(random.uniform()); // exponential
        if (random.uniform() < 0.05) energy *= 0.5;            // a hard collision
        energy -= lost;
        ++layer;
    }
    return layer;
}

} // namespace legacy

// This is all that has to be written: the generator ...
class Hijacked : public legacy::Generator {
public:
    double uniform() override { return ppx::sample(ppx::Uniform(0.0, 1.0)); }
};

// ... and a model that states the prior and what is observed.
double detector() {
    static Hijacked random;
    const double energy = ppx::sample(ppx::Uniform(1.0, 5.0), "energy");
    const int depth = legacy::walk(random, energy);
    ppx::observe(ppx::Poisson(depth + 0.5), "depth");
    return energy;
}

int main(int argc, char **argv) { return ppx::serve(argc, argv, detector, "detector"); }

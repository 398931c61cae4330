// A library that a simulator loads while it runs; compiled twice, NAME is first or second.

#include <ppx.hpp>

namespace NAME {
__attribute__((noinline)) static double draw() { return ppx::sample(ppx::Uniform(0.0, 1.0), "draw"); }
} // namespace NAME

extern "C" double plugin() { return NAME::draw(); }

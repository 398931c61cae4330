// The C++ front end of PPX: everything a simulator includes.
//
//     #include <ppx.hpp>
//
//     double decay() {
//         double mu = ppx::sample(ppx::Normal(1.0, 2.0), "mu");
//         ppx::observe(ppx::Normal(mu, 1.0), "detector");
//         return mu;
//     }
//
//     int main(int argc, char **argv) { return ppx::serve(argc, argv, decay, "decay"); }
//
// C++17. How to build, run and instrument a simulator is described in README.md.

#ifndef PPX_HPP
#define PPX_HPP

#if __cplusplus < 201703L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 201703L)
#error "ppx.hpp needs C++17: compile with -std=c++17 (CMake: target_compile_features(NAME PRIVATE cxx_std_17))."
#else // nothing else is compiled, so that this is the only error

#include "ppx/array.hpp"
#include "ppx/distributions.hpp"
#include "ppx/serving.hpp"
#include "ppx/statement.hpp"
#include "ppx/statements.hpp"

#endif // C++17

#endif

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

#include "ppx/array.hpp"
#include "ppx/distributions.hpp"
#include "ppx/serving.hpp"
#include "ppx/statement.hpp"
#include "ppx/statements.hpp"

#endif

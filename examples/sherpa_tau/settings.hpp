// What can be set on the command line.

#ifndef SHERPA_TAU_SETTINGS_HPP
#define SHERPA_TAU_SETTINGS_HPP

#include <cstdint>
#include <string>

namespace sherpa_tau {

struct Range {
    double low, high;
};

struct Grid {
    int depth = 20, height = 35, width = 35; // voxels along z, y, x

    int size() const { return depth * height * width; }
};

// A calorimeter's resolution: what E GeV is measured with, beside noise, has a variance of stochastic^2 E + (constant E)^2.
struct Resolution {
    double stochastic = 0.0; // GeV^(1/2)
    double constant = 0.0;
};

struct Settings {
    std::string endpoint;
    std::string card;                      // the event generator's run card
    Range px{-18.0, 18.0};                 // of the prior of the tau's momentum, GeV
    Range py{-18.0, 18.0};
    Range pz{42.0, 48.0};
    Grid grid;
    double noise = 0.0;                    // of a voxel, GeV; 0: by its volume, see detector.hpp
    Resolution resolution;                 // of a voxel, beside the noise
    double deposits = 4.0;                 // of an electromagnetic shower, for each GeV
    bool keep_rejected = false;            // draws of rejected passes in the trace, instead of rejection scopes
    std::int64_t bare = 0;                 // events to time without ppx; 0: serve
    std::int64_t decays = 0;               // of the generator to print; 0: serve
    std::uint64_t seed = 0;                // of events and decays without ppx
    bool list_channels = false;
};

// Throws std::invalid_argument, which says what is wrong with which argument.
Settings read_settings(int argc, char **argv);

extern const char *const usage;

} // namespace sherpa_tau

#endif

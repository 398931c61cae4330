// The decay of a tau lepton by an event generator, Sherpa 3 or Pythia 8, seen by a calorimeter: a simulator that answers
// an inference side over PPX.
//
// Both generators are under the GNU General Public License (Sherpa: version 3; Pythia: version 2 or later), and so is a
// program that links one: see LICENSE.

#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <stdexcept>

#include <ppx.hpp>

#include "event.hpp"

namespace {

using namespace sherpa_tau;

void print_channels(const std::vector<Channel> &channels) {
    std::printf("[");
    for (std::size_t i = 0; i < channels.size(); ++i)
        std::printf("%s{\"name\": \"%s\", \"branching_ratio\": %.9g}", i ? ",\n " : "", channels[i].name.c_str(),
                    channels[i].branching_ratio);
    std::printf("]\n");
}

void print_decays(const Settings &settings, TauDecays &decays) {
    Independent source(settings.seed);
    for (std::int64_t i = 0; i < settings.decays; ++i) {
        const std::vector<Particle> particles = decays.decay(source);
        std::printf("{\"channel\": %zu, \"particles\": [", decays.channel());
        for (std::size_t k = 0; k < particles.size(); ++k)
            std::printf("%s[%d, %.17g, %.17g, %.17g, %.17g]", k ? ", " : "", particles[k].pdg, particles[k].momentum.x,
                        particles[k].momentum.y, particles[k].momentum.z, particles[k].energy);
        std::printf("]}\n");
    }
}

// The simulator as it would be without PPX.
void run_alone(const Settings &settings, TauDecays &decays, const Detector &detector) {
    Independent source(settings.seed);
    const Event event(settings, decays, detector, source);
    const auto begin = std::chrono::steady_clock::now();
    for (std::int64_t i = 0; i < settings.bare; ++i) event();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    std::printf("%.1f\n", static_cast<double>(settings.bare) / taken.count());
}

void serve(const Settings &settings, TauDecays &decays, const Detector &detector) {
    std::vector<double> branching;
    for (const Channel &channel : decays.channels()) branching.push_back(channel.branching_ratio);
    Asked source(branching, settings.keep_rejected);
    ppx::Options options;
    options.name = TAU_GENERATOR "_tau";
    ppx::serve(settings.endpoint, Event(settings, decays, detector, source), options);
}

} // namespace

int main(int argc, char **argv) {
    std::cout.rdbuf(std::cerr.rdbuf()); // what the generator has to say; printf is for results
    Settings settings;
    try {
        settings = read_settings(argc, argv);
    } catch (const std::invalid_argument &error) {
        std::fprintf(stderr, "tau: %s\n\n%s", error.what(), usage);
        return 2;
    }
    try {
        TauDecays decays(settings.card);
        const Detector detector(settings.grid, settings.deposits, settings.noise, settings.resolution);
        if (settings.list_channels) print_channels(decays.channels());
        else if (settings.decays) print_decays(settings, decays);
        else if (settings.bare) run_alone(settings, decays, detector);
        else serve(settings, decays, detector);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "tau: %s\n", error.what());
        return 1;
    }
    return 0;
}

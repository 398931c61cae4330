// Decays of a tau lepton at rest, by an event generator: Sherpa (decay.cpp) or Pythia (../pythia_tau/decay.cpp).

#ifndef SHERPA_TAU_DECAY_HPP
#define SHERPA_TAU_DECAY_HPP

#include <memory>
#include <string>
#include <vector>

#include "kinematics.hpp"
#include "source.hpp"

namespace sherpa_tau {

struct Channel {
    std::string name; // the decay products: "pi- pi0 nu_tau"
    double branching_ratio;
};

// One for a process: Sherpa keeps what it knows in global variables.
class TauDecays {
public:
    // Initialises the generator, which reads its run card and writes nothing. Throws std::runtime_error.
    explicit TauDecays(const std::string &card);
    ~TauDecays();

    // The tau's channels in the order in which the generator adds their probabilities up.
    const std::vector<Channel> &channels() const { return channels_; }

    // GeV
    double mass() const { return mass_; }

    // The final particles of one decay, in the tau's rest frame, the most energetic first.
    std::vector<Particle> decay(Source &source);

    // The channel of the last decay.
    std::size_t channel() const;

private:
    struct Generator;

    std::unique_ptr<Generator> generator_;
    std::vector<Channel> channels_;
    double mass_ = 0.0;
};

} // namespace sherpa_tau

#endif

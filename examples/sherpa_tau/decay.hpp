// Decays of a tau lepton at rest, by Sherpa.

#ifndef SHERPA_TAU_DECAY_HPP
#define SHERPA_TAU_DECAY_HPP

#include <memory>
#include <string>
#include <vector>

#include "kinematics.hpp"
#include "source.hpp"

namespace PHASIC {
class Decay_Channel;
}
namespace SHERPA {
class Sherpa;
}

namespace sherpa_tau {

struct Channel {
    std::string name; // the decay products: "pi- pi0 nu_tau"
    double branching_ratio;
};

// One for a process: Sherpa keeps what it knows in global variables.
class TauDecays {
public:
    // Initialises Sherpa, which reads `yaml` and writes nothing. Throws std::runtime_error.
    explicit TauDecays(const std::string &yaml);
    ~TauDecays();

    // The tau's channels in the order in which Sherpa adds their probabilities up.
    const std::vector<Channel> &channels() const { return channels_; }

    // GeV
    double mass() const { return mass_; }

    // The final particles of one decay, in the tau's rest frame, the most energetic first.
    std::vector<Particle> decay(Source &source);

    // The channel of the last decay.
    std::size_t channel() const;

private:
    // Sherpa raises the largest weight of a channel when it meets a larger one, and would so make an event depend on
    // those before it. After a warm-up from a fixed seed each event begins with the same maxima.
    struct Maximum;

    void initialise(const std::string &yaml);
    void find_maxima();
    std::vector<Particle> products() const;

    std::unique_ptr<SHERPA::Sherpa> sherpa_;
    std::vector<const PHASIC::Decay_Channel *> sherpas_channels_;
    std::vector<Channel> channels_;
    std::vector<Maximum> maxima_;
    double mass_ = 0.0;
};

} // namespace sherpa_tau

#endif

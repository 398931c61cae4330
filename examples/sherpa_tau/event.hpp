// One event, from the prior of the tau's momentum to what is observed.

#ifndef SHERPA_TAU_EVENT_HPP
#define SHERPA_TAU_EVENT_HPP

#include "decay.hpp"
#include "detector.hpp"
#include "settings.hpp"
#include "source.hpp"

namespace sherpa_tau {

// The model. Sites: channel, cos theta, phi, psi, pz, px, py (GeV), and Sherpa's and the detector's nuisances.
// Observed: calorimeter. Tags: particles, missing.
class Event {
public:
    Event(const Settings &settings, TauDecays &decays, const Detector &detector, Source &source)
        : settings_(settings), decays_(decays), detector_(detector), source_(source) {}

    void operator()() const;

private:
    std::vector<Particle> products() const;

    const Settings &settings_;
    TauDecays &decays_;
    const Detector &detector_;
    Source &source_;
};

} // namespace sherpa_tau

#endif

// How a decay at rest is oriented.
//
// An unpolarised tau decays isotropically: turned by any rotation, its products are as probable as before. Which way
// they are turned is therefore drawn here, after Sherpa's decay and independently of it, by three draws that mean
// something: the direction of what can be seen, and the rotation about it. The law of the products is Sherpa's; but
// inference can propose where the visible part goes, which it cannot do with draws in Sherpa's rejection loops.

#ifndef SHERPA_TAU_ORIENTATION_HPP
#define SHERPA_TAU_ORIENTATION_HPP

#include <cstdlib>
#include <vector>

#include "kinematics.hpp"

namespace sherpa_tau {

inline bool is_neutrino(int pdg) { return std::abs(pdg) == 12 || std::abs(pdg) == 14 || std::abs(pdg) == 16; }

// The frame that goes with the decay when it is turned: z along the visible momentum, x towards the most energetic
// visible charged particle, where that is not the whole.
inline Frame frame_of(const std::vector<Particle> &products) {
    Vector visible, leading;
    double most = 0.0;
    for (const Particle &particle : products) {
        if (is_neutrino(particle.pdg)) continue;
        visible = visible + particle.momentum;
        if (particle.pdg != 22 && particle.energy > most) {
            most = particle.energy;
            leading = particle.momentum;
        }
    }
    return frame_along(visible, leading);
}

// The decay turned so that its visible momentum has the direction (cos_theta, phi) in `axes`, and the particle that
// gives its frame the azimuth psi about it.
inline void orient(std::vector<Particle> &products, const Frame &axes, double cos_theta, double phi, double psi) {
    const Frame before = frame_of(products);
    const double sin_theta = std::sqrt(std::fmax(0.0, 1.0 - cos_theta * cos_theta));
    const double cos_phi = std::cos(phi), sin_phi = std::sin(phi), cos_psi = std::cos(psi), sin_psi = std::sin(psi);
    const Frame polar{axes.compose({cos_theta * cos_phi, cos_theta * sin_phi, -sin_theta}),
                      axes.compose({-sin_phi, cos_phi, 0.0}),
                      axes.compose({sin_theta * cos_phi, sin_theta * sin_phi, cos_theta})};
    for (Particle &particle : products) {
        const Vector own = before.components(particle.momentum);
        particle.momentum =
            polar.compose({cos_psi * own.x - sin_psi * own.y, sin_psi * own.x + cos_psi * own.y, own.z});
    }
}

} // namespace sherpa_tau

#endif

#include "event.hpp"

#include <algorithm>
#include <cmath>

#include "orientation.hpp"

namespace sherpa_tau {
namespace {

constexpr double pi = 3.141592653589793;
constexpr int most_particles = 8; // in the tag; a decay with more loses the least energetic ones there
constexpr int numbers_of_a_particle = 5;

// Rows of pdg number, px, py, pz, E in the laboratory; zeros behind the last particle.
ppx::Array table_of(const std::vector<Particle> &particles) {
    std::vector<double> numbers(most_particles * numbers_of_a_particle);
    auto at = numbers.begin();
    for (const Particle &particle : particles) {
        if (at == numbers.end()) break;
        *at++ = particle.pdg;
        *at++ = particle.momentum.x;
        *at++ = particle.momentum.y;
        *at++ = particle.momentum.z;
        *at++ = particle.energy;
    }
    return {std::move(numbers), {most_particles, numbers_of_a_particle}};
}

// px, py, pz, E of all neutrinos together.
ppx::Array missing_of(const std::vector<Particle> &particles) {
    Vector momentum;
    double energy = 0.0;
    for (const Particle &particle : particles) {
        if (!is_neutrino(particle.pdg)) continue;
        momentum = momentum + particle.momentum;
        energy += particle.energy;
    }
    return {momentum.x, momentum.y, momentum.z, energy};
}

} // namespace

// In the laboratory; the most energetic first.
//
// The momentum comes first in nature, but a decay at rest does not depend on it; px and py are drawn last. Given how the
// decay is oriented, the image says sharply what they were, nearly linearly, and a network learns that; given the
// momentum, it says sharply how the decay was oriented, by angles that it is hard to learn.
std::vector<Particle> Event::products() const {
    std::vector<Particle> particles = decays_.decay(source_);
    const double psi = source_.uniform({-pi, pi}, "psi");
    const double pz = source_.uniform(settings_.pz, "pz");
    const double cos_theta = source_.uniform({-1.0, 1.0}, "cos theta");
    const double phi = source_.uniform({-pi, pi}, "phi");
    const double px = source_.uniform(settings_.px, "px");
    const double py = source_.uniform(settings_.py, "py");
    const Vector momentum{px, py, pz};
    orient(particles, frame_along(momentum, {1.0, 0.0, 0.0}), cos_theta, phi, psi);
    const double energy = std::sqrt(decays_.mass() * decays_.mass() + dot(momentum, momentum));
    for (Particle &particle : particles) particle = boosted(particle, energy, momentum);
    std::stable_sort(particles.begin(), particles.end(),
                     [](const Particle &a, const Particle &b) { return a.energy > b.energy; });
    return particles;
}

void Event::operator()() const {
    const std::vector<Particle> particles = products();
    const ppx::Array energies = detector_.measure(particles, source_);
    source_.observe(energies, detector_.uncertainties(energies), "calorimeter");
    ppx::tag(table_of(particles), "particles");
    ppx::tag(missing_of(particles), "missing");
}

} // namespace sherpa_tau

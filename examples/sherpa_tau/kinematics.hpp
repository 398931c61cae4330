// Vectors of three and four numbers, rotations and boosts. GeV, c = 1.

#ifndef SHERPA_TAU_KINEMATICS_HPP
#define SHERPA_TAU_KINEMATICS_HPP

#include <cmath>

namespace sherpa_tau {

struct Vector {
    double x = 0.0, y = 0.0, z = 0.0;
};

inline Vector operator+(const Vector &a, const Vector &b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Vector operator-(const Vector &a, const Vector &b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Vector operator*(double factor, const Vector &a) { return {factor * a.x, factor * a.y, factor * a.z}; }
inline double dot(const Vector &a, const Vector &b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline double length(const Vector &a) { return std::sqrt(dot(a, a)); }
inline Vector cross(const Vector &a, const Vector &b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

struct Particle {
    int pdg = 0; // the Particle Data Group's number of its kind
    double energy = 0.0;
    Vector momentum;
};

// Three orthogonal directions of length 1, right-handed.
struct Frame {
    Vector x, y, z;

    Vector components(const Vector &a) const { return {dot(x, a), dot(y, a), dot(z, a)}; }
    Vector compose(const Vector &a) const { return a.x * x + a.y * y + a.z * z; }
};

// The frame whose z is along `axis`, and whose x lies as near to `near` as that allows. Where one of them says nothing
// (it is zero, or along the axis) another direction stands in.
inline Frame frame_along(const Vector &axis, const Vector &near) {
    const double size = length(axis);
    const Vector z = size > 0.0 ? (1.0 / size) * axis : Vector{0.0, 0.0, 1.0};
    for (const Vector &candidate : {near, Vector{1.0, 0.0, 0.0}, Vector{0.0, 1.0, 0.0}}) {
        const Vector across = candidate - dot(candidate, z) * z;
        if (length(across) <= 1e-9 * (1.0 + length(candidate))) continue;
        const Vector x = (1.0 / length(across)) * across;
        return {x, cross(z, x), z};
    }
    return {};
}

// From the rest frame of a particle of this energy and momentum into the laboratory.
inline Particle boosted(const Particle &particle, double energy, const Vector &momentum) {
    const double mass = std::sqrt(energy * energy - dot(momentum, momentum));
    const double along = dot(momentum, particle.momentum);
    const double boosted_energy = (energy * particle.energy + along) / mass;
    const double factor = (particle.energy + boosted_energy) / (energy + mass);
    return {particle.pdg, boosted_energy, particle.momentum + factor * momentum};
}

} // namespace sherpa_tau

#endif

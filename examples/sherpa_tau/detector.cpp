#include "detector.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace sherpa_tau {
namespace {

// mm
constexpr double distance = 1500.0;
constexpr double half_width = 875.0;
constexpr double depth = 1000.0;
constexpr double reach = 100.0; // of a deposit, to all sides

constexpr double unit_noise = 0.5;      // GeV, of a voxel of unit_volume
constexpr double unit_volume = 50.0 * 50.0 * 50.0;
constexpr int deposits_at_a_time = 64;  // drawn as one vector: a trace has a few sites of this kind, not a thousand
constexpr int numbers_of_a_deposit = 3;

// How a kind of particle showers. The depth of a deposit behind the front face has a gamma distribution, its distance
// from the axis of the shower, along x and y each, a normal one. mm; energies in GeV.
struct Shower {
    double response;    // deposits in comparison with an electromagnetic shower of this energy
    double depth;       // mean at 1 GeV
    double deeper;      // mean, for each factor e of energy
    double spread;      // standard deviation of the depth
    double width;       // standard deviation across

    // Wilson and Hilferty (1931): the cube root of a gamma variable is nearly normal.
    double depth_of(double energy, double normal) const {
        const double mean = std::max(depth + deeper * std::log(energy), 0.5 * depth);
        const double shape = (mean / spread) * (mean / spread);
        const double root = 1.0 - 1.0 / (9.0 * shape) + normal / (3.0 * std::sqrt(shape));
        return mean * root * root * root;
    }
};

constexpr Shower electromagnetic{1.0, 150.0, 25.0, 70.0, 20.0};
constexpr Shower hadronic{0.8, 300.0, 60.0, 150.0, 50.0};

// nullptr: leaves nothing.
const Shower *shower_of(int pdg) {
    switch (std::abs(pdg)) {
        case 12: case 13: case 14: case 16: return nullptr;
        case 11: case 22: return &electromagnetic;
        default: return &hadronic;
    }
}

// The part of a deposit that lies below `u`, in units of its reach: the integral of the density 15/16 (1 - u^2)^2.
double part_below(double u) {
    if (u <= -1.0) return 0.0;
    if (u >= 1.0) return 1.0;
    const double square = u * u;
    return 0.5 + 0.9375 * u * (1.0 - square * (2.0 / 3.0 - 0.2 * square));
}

struct Shooting {
    const Shower *shower;
    double energy, x, y, slope_x, slope_y; // x and y at the front face
    std::int64_t deposits;
};

} // namespace

Detector::Detector(const Grid &grid, double deposits, double noise, const Resolution &resolution)
    : grid_(grid), x_{-half_width, 2.0 * half_width / grid.width, grid.width},
      y_{-half_width, 2.0 * half_width / grid.height, grid.height}, z_{0.0, depth / grid.depth, grid.depth},
      deposits_(deposits),
      noise_(noise > 0.0 ? noise : unit_noise * std::sqrt(x_.size * y_.size * z_.size / unit_volume)),
      resolution_(resolution),
      zeros_(std::vector<double>(deposits_at_a_time * numbers_of_a_deposit),
             {deposits_at_a_time, numbers_of_a_deposit}) {}

Detector::Parts Detector::parts(const Axis &axis, double position) {
    Parts found;
    const double begin = (position - reach - axis.begin) / axis.size, end = (position + reach - axis.begin) / axis.size;
    if (!(begin < axis.count && end > 0.0)) return found; // beside the grid, or nowhere
    found.first = std::max(0, static_cast<int>(std::floor(begin)));
    const int last = std::min(axis.count - 1, static_cast<int>(std::floor(end)));
    double below = part_below((axis.begin + found.first * axis.size - position) / reach);
    for (int voxel = found.first; voxel <= last; ++voxel) {
        const double next = part_below((axis.begin + (voxel + 1) * axis.size - position) / reach);
        found.shares[found.count++] = next - below;
        below = next;
    }
    return found;
}

void Detector::add_deposit(double x, double y, double z, ppx::Array &voxels) const {
    const Parts across = parts(x_, x), up = parts(y_, y), along = parts(z_, z);
    const double energy = 1.0 / deposits_;
    for (int k = 0; k < along.count; ++k) {
        for (int j = 0; j < up.count; ++j) {
            const int first = ((along.first + k) * grid_.height + up.first + j) * grid_.width + across.first;
            double *row = voxels.data() + first;
            const double share = energy * along.shares[k] * up.shares[j];
            for (int i = 0; i < across.count; ++i) row[i] += share * across.shares[i];
        }
    }
}

ppx::Array Detector::measure(const std::vector<Particle> &particles, Source &source) const {
    ppx::Array voxels(std::vector<double>(static_cast<std::size_t>(grid_.size())),
                      {grid_.depth, grid_.height, grid_.width});
    std::vector<Shooting> showers;
    for (const Particle &particle : particles) {
        const Shower *shower = shower_of(particle.pdg);
        if (!shower || !(particle.momentum.z > 0.0)) continue; // flies away from the calorimeter
        const double slope_x = particle.momentum.x / particle.momentum.z;
        const double slope_y = particle.momentum.y / particle.momentum.z;
        const std::int64_t number = source.poisson(deposits_ * shower->response * particle.energy, "deposits");
        showers.push_back({shower, particle.energy, distance * slope_x, distance * slope_y, slope_x, slope_y, number});
    }
    ppx::Array normals;
    int used = deposits_at_a_time;
    for (const Shooting &shot : showers) {
        for (std::int64_t deposit = 0; deposit < shot.deposits; ++deposit, ++used) {
            if (used == deposits_at_a_time) {
                normals = source.normals(zeros_, "positions");
                used = 0;
            }
            const double *numbers = normals.data() + used * numbers_of_a_deposit;
            const double z = shot.shower->depth_of(shot.energy, numbers[2]);
            add_deposit(shot.x + shot.slope_x * z + shot.shower->width * numbers[0],
                        shot.y + shot.slope_y * z + shot.shower->width * numbers[1], z, voxels);
        }
    }
    return voxels;
}

ppx::Array Detector::uncertainties(const ppx::Array &energies) const {
    if (resolution_.stochastic == 0.0 && resolution_.constant == 0.0) return noise_;
    ppx::Array stddevs = energies;
    for (std::size_t i = 0; i < stddevs.size(); ++i) {
        const double stochastic = resolution_.stochastic * std::sqrt(std::fmax(0.0, energies[i]));
        const double constant = resolution_.constant * energies[i];
        stddevs[i] = std::sqrt(noise_ * noise_ + stochastic * stochastic + constant * constant);
    }
    return stddevs;
}

} // namespace sherpa_tau

// The calorimeter: what the particles of an event leave in a grid of voxels.
//
// Its front face stands across the beam (z), 1.5 m from the tau's decay; behind it are 1.75 m x 1.75 m (x, y) x 1 m (z)
// of matter, divided into voxels. Muons and neutrinos leave nothing. Any other particle makes a shower: a number of
// deposits, drawn from its mean, each with a position, drawn from the shower's profile. A deposit is a quarter of a GeV
// (with 4 deposits for each GeV), and spreads over the voxels around it. README.md has the table of the numbers.

#ifndef SHERPA_TAU_DETECTOR_HPP
#define SHERPA_TAU_DETECTOR_HPP

#include <vector>

#include "kinematics.hpp"
#include "settings.hpp"
#include "source.hpp"

namespace sherpa_tau {

class Detector {
public:
    // `deposits`: mean number for each GeV of an electromagnetic shower. `noise`: of a voxel, GeV; 0: 0.5 GeV for one
    // of 50 mm x 50 mm x 50 mm, in proportion to the square root of the volume.
    Detector(const Grid &grid, double deposits, double noise, const Resolution &resolution);

    // The expected energies in the voxels, GeV, (depth, height, width).
    ppx::Array measure(const std::vector<Particle> &particles, Source &source) const;

    // The standard deviations with which such energies are measured, GeV; one number where it is the same for all.
    ppx::Array uncertainties(const ppx::Array &energies) const;

private:
    // The voxels along one axis, from `begin` on, `size` each, mm.
    struct Axis {
        double begin, size;
        int count;
    };

    // The part of a deposit that falls into each of a row of voxels.
    struct Parts {
        int first = 0, count = 0;
        double shares[256]; // the finest grid that settings allow has voxels of 1 mm, a deposit 200 mm
    };

    static Parts parts(const Axis &axis, double position);
    void add_deposit(double x, double y, double z, ppx::Array &voxels) const;

    Grid grid_;
    Axis x_, y_, z_;
    double deposits_, noise_;
    Resolution resolution_;
    ppx::Array zeros_; // of the shape of what is drawn at a time
};

} // namespace sherpa_tau

#endif

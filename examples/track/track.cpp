// A charged particle flies through eight planes of a detector in a magnetic field, is scattered in each, and now and then
// radiates a photon, after which it bends more. What is measured is where it hit each plane. What is asked is everything
// else: its momentum and charge, its direction, and where it lost how much energy.
//
// Units: GeV, GeV/c, metres, tesla, radians; hits in mm. Angles are small, so that tan x = x.

#include <array>
#include <cmath>
#include <cstddef>
#include <string>

#include <ppx.hpp>

namespace {

constexpr std::size_t num_planes = 8;
constexpr double spacing = 0.15;           // between planes, m
constexpr double field = 1.0;              // T
constexpr double resolution = 6.0;         // of a hit, mm
constexpr double thickness = 0.1;          // of a plane, radiation lengths: multiple scattering
constexpr double radiation = 0.1;          // probability to radiate a photon in a plane
constexpr double least_fraction = 0.1;     // of its energy that goes into the photon; up to nine tenths
constexpr double largest_fraction = 0.9;

// A standard normal number by Marsaglia's polar method, as the oldest library of any laboratory has it: a loop that draws
// until a point falls in the disc. What it draws is a nuisance: nothing is proposed for it, and of the loop only the pass
// that was accepted becomes a part of the trace.
double standard_normal() {
    const ppx::Uniform uniform(-1.0, 1.0);
    ppx::RejectionScope scope("polar method");
    for (;;) {
        const double x = ppx::sample(uniform, ppx::Statement().uncontrolled());
        const double y = ppx::sample(uniform, ppx::Statement().uncontrolled());
        const double s = x * x + y * y;
        if (0.0 < s && s < 1.0) return x * std::sqrt(-2.0 * std::log(s) / s);
        scope.reject();
    }
}

std::array<double, num_planes> track() {
    const bool positive = ppx::sample(ppx::Bernoulli(0.5), "positive") == 1;
    double momentum = ppx::sample(ppx::Uniform(0.5, 5.0), "momentum");
    double angle = ppx::sample(ppx::Normal(0.0, 0.03), "angle");
    double deflection = 0.0, radiated = 0.0; // m, GeV
    std::array<double, num_planes> positions{};
    for (std::size_t plane = 0; plane < num_planes; ++plane) {
        const std::string number = std::to_string(plane);
        const double curvature = (positive ? 0.3 : -0.3) * field / momentum; // 1/m
        deflection += angle * spacing + 0.5 * curvature * spacing * spacing;
        angle += curvature * spacing;
        positions[plane] = 1000.0 * deflection;
        ppx::observe(ppx::Normal(positions[plane], resolution), "hit " + number);

        angle += 0.0136 / momentum * std::sqrt(thickness) * standard_normal();
        if (ppx::sample(ppx::Bernoulli(radiation), "radiates in plane " + number)) {
            const double u = ppx::sample(ppx::Uniform(0.0, 1.0), "photon of plane " + number);
            const double fraction = least_fraction * std::pow(largest_fraction / least_fraction, u); // density ~ 1 / fraction
            radiated += fraction * momentum;
            momentum -= fraction * momentum;
        }
    }
    ppx::tag(radiated, "radiated");
    return positions;
}

} // namespace

int main(int argc, char **argv) { return ppx::serve(argc, argv, track, "track"); }

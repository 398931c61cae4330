// The hook proper: the event generator's draws as sites, by their roles, which decay.cpp tells from the call stack.
//
// - One number is compared with the cumulative branching ratios of the tau. It becomes a Categorical over the channels,
//   and the generator gets the middle of the channel's part of (0, 1): it looks at nothing else of the number. If it
//   asks repeatedly and only the last number counts, it gets the same one each time, which then has the right law.
// - Loops that draw phase space points until one is accepted are rejection scopes. Between one loop and the next the
//   generators always draw something else, so a draw in a loop that follows the deciding one begins another pass.
// - All other draws are uniform nuisances.

#include "source.hpp"

#include <numeric>

namespace sherpa_tau {
namespace {

const ppx::Uniform unit(0.0, 1.0);

bool is_in_loop(Role role) { return role >= Role::Kinematics; }

} // namespace

Asked::Asked(const std::vector<double> &branching, bool keep_rejected)
    : channels_(branching), keep_rejected_(keep_rejected) {
    const double total = std::accumulate(branching.begin(), branching.end(), 0.0);
    double below = 0.0;
    for (const double probability : branching) {
        middles_.push_back((below + 0.5 * probability) / total);
        below += probability;
    }
}

Role Asked::role(const ppx::Place &place) {
    if (place.number >= roles_.size()) roles_.resize(place.number + 1, Role::Unknown);
    Role &known = roles_[place.number];
    if (known == Role::Unknown) {
        known = role_of(place.address);
        if (keep_rejected_ && is_in_loop(known)) known = Role::Nuisance;
    }
    return known;
}

double Asked::for_generator() {
    const ppx::Place place = ppx::place();
    const Role found = role(place);
    if (is_in_loop(found)) return in_loop(place, found);
    loop_.reset();
    if (found == Role::Channel) return channel(place);
    if (found == Role::RepeatedChannel) {
        if (!channel_) channel_ = channel(place);
        return *channel_;
    }
    return ppx::sample(unit, ppx::Statement().at(place).uncontrolled());
}

double Asked::channel(const ppx::Place &place) {
    return middles_[static_cast<std::size_t>(ppx::sample(channels_, ppx::Statement("channel").at(place)))];
}

double Asked::in_loop(const ppx::Place &place, Role role) {
    if (!loop_) {
        loop_.emplace(ppx::Statement("kinematics").at(place));
        first_ = place.number;
    } else if (begins_again(place, role)) {
        loop_->reject();
    }
    pass_is_over_ = role == Role::Acceptance;
    last_ = place.number;
    return ppx::sample(unit, ppx::Statement().at(place).uncontrolled());
}

bool Asked::begins_again(const ppx::Place &place, Role role) const {
    return pass_is_over_ || (role == Role::Beginning && place.number == first_ && last_ != first_);
}

void Asked::end_of_generator() {
    channel_.reset();
    loop_.reset();
}

double Asked::uniform(const Range &range, const char *name) {
    return ppx::sample(ppx::Uniform(range.low, range.high), name);
}

std::int64_t Asked::poisson(double mean, const char *name) {
    return ppx::sample(ppx::Poisson(mean), ppx::Statement(name).uncontrolled());
}

ppx::Array Asked::normals(const ppx::Array &zeros, const char *name) {
    return ppx::sample(ppx::Each<ppx::Normal>(zeros, 1.0), ppx::Statement(name).uncontrolled());
}

void Asked::observe(const ppx::Array &means, const ppx::Array &stddevs, const char *name) {
    ppx::observe(ppx::Each<ppx::Normal>(means, stddevs), name);
}

double Independent::uniform(const Range &range, const char *) {
    return range.low + (range.high - range.low) * unit_(generator_);
}

std::int64_t Independent::poisson(double mean, const char *) {
    return std::poisson_distribution<std::int64_t>(mean)(generator_);
}

ppx::Array Independent::normals(const ppx::Array &zeros, const char *) {
    ppx::Array numbers = zeros;
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = normal_(generator_);
    return numbers;
}

void Independent::observe(const ppx::Array &means, const ppx::Array &stddevs, const char *name) {
    ppx::Array voxels = normals(means, name);
    const std::size_t step = stddevs.size() == 1 ? 0 : 1;
    for (std::size_t i = 0; i < voxels.size(); ++i) voxels[i] = means[i] + stddevs[step * i] * voxels[i];
    __asm__ volatile("" : : "r"(voxels.data()) : "memory"); // as if someone looked at them
}

} // namespace sherpa_tau

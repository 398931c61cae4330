// The hook proper: which of Sherpa's draws is which, seen from the call stack.
//
// Two places in Sherpa are treated apart; all other draws are uniform nuisances.
//
// - PHASIC::Decay_Table::Select compares one number with the cumulative branching ratios. For the tau's own decay the
//   number becomes a Categorical over the channels, and Sherpa gets the middle of the channel's part of (0, 1): it
//   looks at nothing else of the number.
// - PHASIC::Decay_Channel::GenerateKinematics draws phase space points until one is accepted: a rejection scope. The
//   innermost frame of the draw that decides over a pass is GenerateKinematics itself; that of all others is below it.
//   Sherpa also accepts a point, without asking, whose weight passes the maximum. Before its next loop it always draws
//   something else (the order of the daughters), so a draw that follows the deciding one begins another pass.

#include "source.hpp"

#include <numeric>
#include <string_view>

namespace sherpa_tau {
namespace {

const ppx::Uniform unit(0.0, 1.0);

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

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

// The innermost frames are this file's and the hook's; before them stand Sherpa's.
Asked::Role Asked::role_of(std::string_view address) const {
    const std::string_view sherpa = address.substr(0, address.rfind("; Hook::Get()"));
    const std::string_view innermost = sherpa.substr(sherpa.rfind("; ") + 1);
    if (contains(innermost, "PHASIC::Decay_Table::Select()"))
        return contains(sherpa, "::FillDecayTree(") ? Role::Nuisance : Role::Channel; // of a daughter, of the tau
    if (keep_rejected_) return Role::Nuisance;
    if (contains(innermost, "PHASIC::Decay_Channel::GenerateKinematics(")) return Role::Acceptance;
    return contains(sherpa, "PHASIC::Decay_Channel::GenerateKinematics(") ? Role::Kinematics : Role::Nuisance;
}

Asked::Role Asked::role(const ppx::Place &place) {
    if (place.number >= roles_.size()) roles_.resize(place.number + 1, Role::Unknown);
    Role &known = roles_[place.number];
    if (known == Role::Unknown) known = role_of(place.address);
    return known;
}

double Asked::for_sherpa() {
    const ppx::Place place = ppx::place();
    const Role found = role(place);
    if (found == Role::Kinematics || found == Role::Acceptance) return in_loop(place, found == Role::Acceptance);
    loop_.reset();
    if (found == Role::Channel) return channel(place);
    return ppx::sample(unit, ppx::Statement().at(place).uncontrolled());
}

double Asked::channel(const ppx::Place &place) {
    return middles_[static_cast<std::size_t>(ppx::sample(channels_, ppx::Statement("channel").at(place)))];
}

double Asked::in_loop(const ppx::Place &place, bool is_acceptance) {
    if (!loop_) loop_.emplace(ppx::Statement("kinematics").at(place));
    else if (pass_is_over_) loop_->reject();
    pass_is_over_ = is_acceptance;
    return ppx::sample(unit, ppx::Statement().at(place).uncontrolled());
}

void Asked::end_of_sherpa() { loop_.reset(); }

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
    for (std::size_t i = 0; i < voxels.size(); ++i) voxels[i] = means[i] + stddevs[i] * voxels[i];
    __asm__ volatile("" : : "r"(voxels.data()) : "memory"); // as if someone looked at them
}

} // namespace sherpa_tau

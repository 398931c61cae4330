// Where the simulator's random numbers come from: an inference side over PPX, or a generator as in any simulation.

#ifndef SHERPA_TAU_SOURCE_HPP
#define SHERPA_TAU_SOURCE_HPP

#include <cstdint>
#include <optional>
#include <random>
#include <string_view>
#include <vector>

#include <ppx.hpp>

#include "settings.hpp"

namespace sherpa_tau {

// What a draw of the event generator is.
enum class Role : unsigned char {
    Unknown,
    Nuisance,
    Channel,         // decides over the tau's decay channel, and nothing else
    RepeatedChannel, // the same, drawn several times for one decay, of which only the last counts
    Kinematics,      // in a loop that draws until it accepts
    Acceptance,      // in such a loop: decides over a pass; a draw that follows in the loop belongs to the next one
    Beginning,       // in such a loop, a place that is not left and met again in one pass: if it is, another has begun
};

// The role of the draws of a call stack that ends in the hook; defined beside it, in the generator's decay.cpp.
Role role_of(std::string_view address);

class Source {
public:
    virtual ~Source() = default;

    // What the event generator asks for: a number between 0 and 1.
    virtual double for_generator() = 0;
    virtual void end_of_generator() {} // its event is complete, or an exception leaves it

    virtual double uniform(const Range &range, const char *name) = 0;
    virtual std::int64_t poisson(double mean, const char *name) = 0;
    virtual ppx::Array normals(const ppx::Array &zeros, const char *name) = 0; // standard ones, of the shape of `zeros`
    // `stddevs`: of the shape of `means`, or one number.
    virtual void observe(const ppx::Array &means, const ppx::Array &stddevs, const char *name) = 0;
};

// Every draw is a site of PPX, known by the call stack that led to it.
class Asked : public Source {
public:
    // `branching`: the probabilities of the tau's decay channels, in the order in which the generator adds them up.
    // `keep_rejected`: no rejection scopes, the draws of rejected passes are sites like others.
    Asked(const std::vector<double> &branching, bool keep_rejected);

    double for_generator() override;
    void end_of_generator() override;
    double uniform(const Range &range, const char *name) override;
    std::int64_t poisson(double mean, const char *name) override;
    ppx::Array normals(const ppx::Array &zeros, const char *name) override;
    void observe(const ppx::Array &means, const ppx::Array &stddevs, const char *name) override;

private:
    Role role(const ppx::Place &place);
    double channel(const ppx::Place &place);
    double in_loop(const ppx::Place &place, Role role);
    bool begins_again(const ppx::Place &place, Role role) const;

    const ppx::Categorical channels_;
    const bool keep_rejected_;
    std::vector<double> middles_; // of each channel's part of (0, 1)
    std::vector<Role> roles_;     // by number of the place
    std::optional<double> channel_; // what the generator was given for it; only where it asks repeatedly
    std::optional<ppx::RejectionScope> loop_;
    bool pass_is_over_ = false;   // the loop has drawn what decides over its pass
    std::uint32_t first_ = 0;     // number of the place of the loop's first draw
    std::uint32_t last_ = 0;      // and of its last one so far
};

// The Mersenne Twister.
class Independent : public Source {
public:
    explicit Independent(std::uint64_t seed) : generator_(seed) {}

    double for_generator() override { return unit_(generator_); }
    double uniform(const Range &range, const char *name) override;
    std::int64_t poisson(double mean, const char *name) override;
    ppx::Array normals(const ppx::Array &zeros, const char *name) override;
    void observe(const ppx::Array &means, const ppx::Array &stddevs, const char *name) override; // adds noise

private:
    std::mt19937_64 generator_;
    std::uniform_real_distribution<double> unit_{0.0, 1.0};
    std::normal_distribution<double> normal_;
};

} // namespace sherpa_tau

#endif

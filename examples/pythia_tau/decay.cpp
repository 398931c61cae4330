// Decays of a tau lepton at rest, by Pythia 8.

#include "decay.hpp"

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <string_view>

#include "Pythia8/Pythia.h"

// Pythia asks this, once it is given to it, for every random number.
class Hook : public Pythia8::RndmEngine {
public:
    double flat() override {
        const double number = source->for_generator();
        __asm__ volatile(""); // no jump: this frame stays
        return number;
    }

    sherpa_tau::Source *source = nullptr;
};

namespace sherpa_tau {
namespace {

constexpr int tau_lepton = 15;
constexpr int most_failures = 100; // of Pythia, one after the other

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

// The last frame of an address, and what is before it.
std::string_view innermost_of(std::string_view address) { return address.substr(address.rfind("; ") + 1); }
std::string_view without_innermost(std::string_view address) { return address.substr(0, address.rfind("; ")); }

// Makes a source the one that Pythia draws from.
class Drawing {
public:
    Drawing(Hook &hook, Source &source) : hook_(hook) { hook_.source = &source; }
    ~Drawing() { hook_.source->end_of_generator(); }
    Drawing(const Drawing &) = delete;
    Drawing &operator=(const Drawing &) = delete;

private:
    Hook &hook_;
};

std::vector<int> products_of(const Pythia8::DecayChannel &channel) {
    std::vector<int> products;
    for (int i = 0; i < channel.multiplicity(); ++i) products.push_back(channel.product(i));
    return products;
}

} // namespace

// The innermost frames are the source's, the hook's and Rndm::flat; before them stands who asked for the number.
//
// Pythia8::TauDecays::createChildren picks the tau's channel by ParticleDataEntry::pickChannel, which other particles'
// decays call too. It picks ten times, and the tenth counts: after each it asks whether masses allow the decay, but
// takes the tau for one of the products, so that the answer is always no, whatever was picked. TauDecays::decay draws
// the products' momenta in isotropicDecay until the matrix element accepts them, by a draw of its own. In
// isotropicDecay a loop comes first that draws masses and decides over them; it begins with what the whole begins with,
// so that both are one loop with two exits. After it only Rndm::phaseSpace2 draws.
Role role_of(std::string_view address) {
    const std::string_view pythia = without_innermost(address.substr(0, address.rfind("; Hook::flat()")));
    const std::string_view innermost = innermost_of(pythia);
    if (contains(innermost, "Pythia8::ParticleDataEntry::pickChannel()"))
        return contains(pythia, "Pythia8::TauDecays::createChildren(") ? Role::RepeatedChannel : Role::Nuisance;
    if (contains(innermost, "Pythia8::TauDecays::decay(")) return Role::Acceptance;
    if (contains(innermost, "Pythia8::TauDecays::isotropicDecay(")) return Role::Beginning;
    return contains(pythia, "Pythia8::TauDecays::isotropicDecay(") ? Role::Kinematics : Role::Nuisance;
}

struct TauDecays::Generator {
    explicit Generator(const std::string &card);
    bool has_decayed(Source &source);
    std::vector<int> taus_products();

    std::shared_ptr<Hook> hook = std::make_shared<Hook>();
    Pythia8::Pythia pythia{PYTHIA_XML, false};
    std::vector<std::vector<int>> channels; // of the tau: the products, in Pythia's order
};

TauDecays::Generator::Generator(const std::string &card) {
    Independent fixed(1);
    const Drawing drawing(*hook, fixed);
    if (!pythia.readFile(card)) throw std::runtime_error("Pythia does not understand all of " + card + ": see above");
    if (!pythia.setRndmEnginePtr(hook) || !pythia.init())
        throw std::runtime_error("Pythia cannot initialise itself with " + card + ": see above");
}

// Gives Pythia an event of one tau, in the place 1, and lets it go on from there. False if it gave up.
bool TauDecays::Generator::has_decayed(Source &source) {
    const Drawing drawing(*hook, source);
    const double mass = pythia.particleData.m0(tau_lepton);
    pythia.event.reset();
    pythia.event.append(tau_lepton, 1, 0, 0, 0.0, 0.0, 0.0, mass, mass);
    return pythia.next();
}

std::vector<int> TauDecays::Generator::taus_products() {
    std::vector<int> products;
    for (const int daughter : pythia.event[1].daughterList()) products.push_back(pythia.event[daughter].id());
    return products;
}

TauDecays::TauDecays(const std::string &card) {
    if (!std::filesystem::exists(card)) throw std::runtime_error("there is no run card " + card);
    generator_ = std::make_unique<Generator>(card);
    Pythia8::ParticleData &known = generator_->pythia.particleData;
    mass_ = known.m0(tau_lepton);
    const Pythia8::ParticleDataEntryPtr tau = known.particleDataEntryPtr(tau_lepton);
    if (!tau->canDecay() || !tau->mayDecay() || !tau->preparePick(tau_lepton))
        throw std::runtime_error("Pythia has no decays of the tau: see its run card " + card);
    double total = 0.0;
    for (int i = 0; i < tau->sizeChannels(); ++i) {
        const Pythia8::DecayChannel &channel = tau->channel(i);
        if (!(channel.currentBR() > 0.0)) continue; // cannot be picked
        std::string name;
        for (const int product : products_of(channel)) name += (name.empty() ? "" : " ") + known.name(product);
        channels_.push_back({name, channel.currentBR()});
        generator_->channels.push_back(products_of(channel));
        total += channel.currentBR();
    }
    for (Channel &channel : channels_) channel.branching_ratio /= total;
}

TauDecays::~TauDecays() = default;

std::vector<Particle> TauDecays::decay(Source &source) {
    Pythia8::Pythia &pythia = generator_->pythia;
    for (int failures = 0; !generator_->has_decayed(source);)
        if (++failures == most_failures) throw std::runtime_error("Pythia cannot decay the tau: see above");
    std::vector<Particle> found;
    for (int i = 1; i < pythia.event.size(); ++i) {
        const Pythia8::Particle &particle = pythia.event[i];
        if (particle.isFinal())
            found.push_back({particle.id(), particle.e(), {particle.px(), particle.py(), particle.pz()}});
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const Particle &a, const Particle &b) { return a.energy > b.energy; });
    return found;
}

std::size_t TauDecays::channel() const {
    const std::vector<std::vector<int>> &channels = generator_->channels;
    const auto found = std::find(channels.begin(), channels.end(), generator_->taus_products());
    if (found == channels.end()) throw std::runtime_error("Pythia's event has no decay of a tau");
    return static_cast<std::size_t>(found - channels.begin());
}

} // namespace sherpa_tau

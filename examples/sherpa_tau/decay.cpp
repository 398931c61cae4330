#include "decay.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "ATOOLS/Math/Random.H"
#include "ATOOLS/Org/Exception.H"
#include "ATOOLS/Phys/Blob_List.H"
#include "ATOOLS/Phys/Particle.H"
#include "PHASIC++/Decays/Decay_Channel.H"
#include "PHASIC++/Decays/Decay_Map.H"
#include "SHERPA/Initialization/Initialization_Handler.H"
#include "SHERPA/Main/Sherpa.H"
#include "SHERPA/Single_Events/Decay_Handler_Base.H"

// Sherpa makes its random number generator itself, by the name in its run card.
class Hook : public ATOOLS::External_RNG {
public:
    double Get() override {
        const double number = source->for_generator();
        __asm__ volatile(""); // no jump: this frame stays
        return number;
    }

    static sherpa_tau::Source *source;
};

sherpa_tau::Source *Hook::source = nullptr;

DECLARE_GETTER(Hook, "PPX", ATOOLS::External_RNG, ATOOLS::RNG_Key);

ATOOLS::External_RNG *
ATOOLS::Getter<ATOOLS::External_RNG, ATOOLS::RNG_Key, Hook>::operator()(const ATOOLS::RNG_Key &) const {
    return new Hook();
}

void ATOOLS::Getter<ATOOLS::External_RNG, ATOOLS::RNG_Key, Hook>::PrintInfo(std::ostream &out, std::size_t) const {
    out << "numbers from the inference side";
}

namespace sherpa_tau {
namespace {

constexpr int warm_up = 2000; // events

// Makes a source the one that Sherpa draws from.
class Drawing {
public:
    explicit Drawing(Source &source) { Hook::source = &source; }
    ~Drawing() { Hook::source->end_of_generator(); }
    Drawing(const Drawing &) = delete;
    Drawing &operator=(const Drawing &) = delete;
};

// A folder that Sherpa fills with reports while it initialises itself, and that goes with them.
class ScratchFolder {
public:
    ScratchFolder() : before_(std::filesystem::current_path()) {
        std::string name = (std::filesystem::temp_directory_path() / "sherpa-tau-XXXXXX").string();
        if (!mkdtemp(name.data())) throw std::runtime_error("cannot make a folder " + name);
        folder_ = name;
        std::filesystem::current_path(folder_);
    }
    ~ScratchFolder() {
        std::error_code ignored;
        std::filesystem::current_path(before_, ignored);
        std::filesystem::remove_all(folder_, ignored);
    }

private:
    std::filesystem::path before_, folder_;
};

PHASIC::Decay_Map &decay_map(SHERPA::Sherpa &sherpa) {
    SHERPA::Decay_Handler_Base *handler = sherpa.GetInitHandler()->GetHDHandler();
    if (!handler || !handler->DecayMap()) throw std::runtime_error("Sherpa knows no hadron decays: see its run card");
    return *handler->DecayMap();
}

PHASIC::Decay_Table &tau_table(SHERPA::Sherpa &sherpa) {
    PHASIC::Decay_Table *table = decay_map(sherpa).FindDecay(ATOOLS::Flavour(kf_tau));
    if (!table || table->empty()) throw std::runtime_error("Sherpa has no decays of the tau: see its run card");
    return *table;
}

// The counter of the first decay in an event, for which channels may be switched on and off.
constexpr std::size_t first_decay = 1;

std::string name_of(const ATOOLS::Flavour &flavour) {
    static const std::map<long int, const char *> names{
        {11, "e-"},   {12, "nu_e"},   {13, "mu-"},   {14, "nu_mu"}, {16, "nu_tau"}, {22, "gamma"},
        {111, "pi0"}, {211, "pi+"},   {-211, "pi-"}, {321, "K+"},   {-321, "K-"},   {-12, "anti-nu_e"},
        {130, "K_L"}, {310, "K_S"},   {221, "eta"},  {-14, "anti-nu_mu"}};
    const auto found = names.find(static_cast<long int>(flavour));
    return found == names.end() ? flavour.IDName() : found->second;
}

std::string name_of(const PHASIC::Decay_Channel &channel) {
    std::string name;
    for (std::size_t i = 1; i < channel.Flavs().size(); ++i) name += (i > 1 ? " " : "") + name_of(channel.Flavs()[i]);
    return name;
}

// The table of a flavour and those of all that its decays lead to.
void collect_tables(PHASIC::Decay_Map &map, const ATOOLS::Flavour &flavour, std::set<PHASIC::Decay_Table *> &found) {
    PHASIC::Decay_Table *table = map.FindDecay(flavour);
    if (!table || !found.insert(table).second) return;
    for (const PHASIC::Decay_Channel *channel : *table)
        for (std::size_t i = 1; i < channel->Flavs().size(); ++i) collect_tables(map, channel->Flavs()[i], found);
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

std::string text_of(const ATOOLS::Exception &exception) {
    std::ostringstream text;
    text << exception;
    return text.str();
}

} // namespace

// Which of Sherpa's draws is which. The innermost frames are the source's and the hook's; before them stand Sherpa's.
//
// PHASIC::Decay_Table::Select picks a channel, of the tau or of a daughter. PHASIC::Decay_Channel::GenerateKinematics
// draws phase space points until it accepts one: the innermost frame of the draw that decides over a pass is
// GenerateKinematics itself; that of all others is below it. Sherpa also accepts a point, without asking, whose weight
// passes the maximum.
Role role_of(std::string_view address) {
    const std::string_view sherpa = address.substr(0, address.rfind("; Hook::Get()"));
    const std::string_view innermost = sherpa.substr(sherpa.rfind("; ") + 1);
    if (contains(innermost, "PHASIC::Decay_Table::Select()"))
        return contains(sherpa, "::FillDecayTree(") ? Role::Nuisance : Role::Channel; // of a daughter, of the tau
    if (contains(innermost, "PHASIC::Decay_Channel::GenerateKinematics(")) return Role::Acceptance;
    return contains(sherpa, "PHASIC::Decay_Channel::GenerateKinematics(") ? Role::Kinematics : Role::Nuisance;
}

struct TauDecays::Generator {
    // Sherpa raises the largest weight of a channel when it meets a larger one, and would so make an event depend on
    // those before it. After a warm-up from a fixed seed each event begins with the same maxima.
    struct Maximum {
        PHASIC::Decay_Channel *channel;
        double value;
    };

    explicit Generator(const std::string &yaml);
    void find_maxima();
    std::vector<Particle> products() const;

    std::unique_ptr<SHERPA::Sherpa> sherpa;
    std::vector<const PHASIC::Decay_Channel *> channels; // of the tau
    std::vector<Maximum> maxima;
};

TauDecays::Generator::Generator(const std::string &yaml) {
    const ScratchFolder scratch;
    std::string program = "Sherpa", card = yaml;
    std::vector<char *> arguments{program.data(), card.data(), nullptr};
    sherpa = std::make_unique<SHERPA::Sherpa>(2, arguments.data());
    if (!sherpa->InitializeTheRun() || !sherpa->InitializeTheEventHandler())
        throw std::runtime_error("Sherpa cannot initialise itself with " + yaml);
    for (const PHASIC::Decay_Channel *channel : tau_table(*sherpa))
        if (channel->Active(first_decay) >= 1) channels.push_back(channel);
    find_maxima();
}

void TauDecays::Generator::find_maxima() {
    for (int event = 0; event < warm_up; ++event) sherpa->GenerateOneEvent();
    std::set<PHASIC::Decay_Table *> tables;
    collect_tables(decay_map(*sherpa), ATOOLS::Flavour(kf_tau), tables);
    for (PHASIC::Decay_Table *table : tables)
        for (PHASIC::Decay_Channel *channel : *table) maxima.push_back({channel, channel->Max()});
}

TauDecays::TauDecays(const std::string &yaml) {
    const std::string card = std::filesystem::absolute(yaml).string();
    if (!std::filesystem::exists(card)) throw std::runtime_error("there is no run card " + card);
    Independent fixed(1);
    const Drawing drawing(fixed);
    try {
        generator_ = std::make_unique<Generator>(card);
        mass_ = ATOOLS::Flavour(kf_tau).HadMass();
        const double width = tau_table(*generator_->sherpa).ActiveWidth(first_decay);
        for (const PHASIC::Decay_Channel *channel : generator_->channels)
            channels_.push_back({name_of(*channel), channel->Width() / width});
    } catch (const ATOOLS::Exception &exception) {
        throw std::runtime_error("Sherpa: " + text_of(exception));
    }
}

TauDecays::~TauDecays() = default;

std::vector<Particle> TauDecays::decay(Source &source) {
    for (const Generator::Maximum &maximum : generator_->maxima) maximum.channel->SetMax(maximum.value);
    const Drawing drawing(source);
    try {
        while (!generator_->sherpa->GenerateOneEvent()) continue;
    } catch (const ATOOLS::Exception &exception) {
        throw std::runtime_error("Sherpa: " + text_of(exception));
    }
    return generator_->products();
}

std::size_t TauDecays::channel() const {
    const std::vector<const PHASIC::Decay_Channel *> &channels = generator_->channels;
    for (ATOOLS::Blob *blob : generator_->sherpa->GetBlobList()) {
        ATOOLS::Blob_Data_Base *data = (*blob)["dc"];
        if (!data || blob->InParticle(0)->Flav().Kfcode() != kf_tau) continue;
        const auto *chosen = data->Get<PHASIC::Decay_Channel *>();
        const auto found = std::find(channels.begin(), channels.end(), chosen);
        if (found != channels.end()) return static_cast<std::size_t>(found - channels.begin());
    }
    throw std::runtime_error("Sherpa's event has no decay of a tau");
}

std::vector<Particle> TauDecays::Generator::products() const {
    std::vector<Particle> found;
    for (ATOOLS::Blob *blob : sherpa->GetBlobList()) {
        if (blob->Type() != ATOOLS::btp::Hadron_Decay) continue;
        for (int i = 0; i < blob->NOutP(); ++i) {
            const ATOOLS::Particle &particle = *blob->OutParticle(i);
            if (particle.Status() != ATOOLS::part_status::active) continue;
            const ATOOLS::Vec4D &momentum = particle.Momentum();
            found.push_back({static_cast<int>(static_cast<long int>(particle.Flav())), momentum[0],
                             {momentum[1], momentum[2], momentum[3]}});
        }
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const Particle &a, const Particle &b) { return a.energy > b.energy; });
    return found;
}

} // namespace sherpa_tau

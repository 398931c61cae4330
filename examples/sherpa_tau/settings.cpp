#include "settings.hpp"

#include <cmath>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace sherpa_tau {

const char *const usage =
    "usage: tau [options] ENDPOINT\n"
    "\n"
    "Serves decays of the tau lepton by " TAU_GENERATOR ", seen by a calorimeter, over PPX.\n"
    "\n"
    "  ENDPOINT             ipc:///path or tcp://address:port\n"
    "  --px LOW,HIGH        range of the uniform prior of the tau's momentum in GeV (default -18,18)\n"
    "  --py LOW,HIGH        (-18,18)\n"
    "  --pz LOW,HIGH        (42,48)\n"
    "  --grid DEPTH,HEIGHT,WIDTH\n"
    "                       voxels of the calorimeter along z, y and x (20,35,35)\n"
    "  --noise GEV          standard deviation of a voxel's noise (0.5 GeV for a grid of 20,35,35; it goes\n"
    "                       with the square root of a voxel's volume)\n"
    "  --resolution STOCHASTIC,CONSTANT\n"
    "                       what a voxel of E GeV is measured with beside noise: a standard deviation of STOCHASTIC\n"
    "                       times the square root of E, and one of CONSTANT times E (0,0)\n"
    "  --deposits NUMBER    mean number of deposits of a shower for each GeV (4)\n"
    "  --rejected           keep the draws of rejected passes of " TAU_GENERATOR "'s loops in the trace, as nuisances; without\n"
    "                       it the loops are rejection scopes\n"
    "  " TAU_CARD_OPTION " FILE          " TAU_GENERATOR "'s run card (the one beside the program's source)\n"
    "  --channels           print the decay channels and their branching ratios as JSON, and end\n"
    "  --bare EVENTS        simulate without PPX, from a Mersenne Twister; print events per second, and end\n"
    "  --decays NUMBER      print decays at rest as " TAU_GENERATOR " makes them, one JSON object a line (channel, and of every\n"
    "                       particle pdg number, px, py, pz, E in GeV), and end\n"
    "  --seed NUMBER        of the Mersenne Twister (0)\n";

namespace {

[[noreturn]] void refuse(const std::string &option, const std::string &text, const std::string &expected) {
    throw std::invalid_argument(option + " " + text + ": expected " + expected);
}

std::vector<double> numbers(const std::string &option, const std::string &text, std::size_t count,
                            const std::string &expected) {
    std::vector<double> found;
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        char *end = nullptr;
        const double number = std::strtod(part.c_str(), &end);
        if (part.empty() || *end || !std::isfinite(number)) refuse(option, text, expected);
        found.push_back(number);
    }
    if (found.size() != count || text.back() == ',') refuse(option, text, expected);
    return found;
}

Range range(const std::string &option, const std::string &text) {
    const std::string expected = "two numbers in GeV, the smaller one first, as -18,18";
    const std::vector<double> ends = numbers(option, text, 2, expected);
    if (!(ends[0] < ends[1])) refuse(option, text, expected);
    return {ends[0], ends[1]};
}

int voxels(const std::string &option, const std::string &text, double number, const std::string &expected) {
    if (!(number >= 1.0 && number <= 1000.0) || number != std::floor(number)) refuse(option, text, expected);
    return static_cast<int>(number);
}

Grid grid(const std::string &option, const std::string &text) {
    const std::string expected = "three numbers of voxels from 1 to 1000, as 20,35,35";
    const std::vector<double> sizes = numbers(option, text, 3, expected);
    return {voxels(option, text, sizes[0], expected), voxels(option, text, sizes[1], expected),
            voxels(option, text, sizes[2], expected)};
}

Resolution resolution(const std::string &option, const std::string &text) {
    const std::string expected = "two numbers from 0 on, as 0.5,0.1";
    const std::vector<double> terms = numbers(option, text, 2, expected);
    if (terms[0] < 0.0 || terms[1] < 0.0) refuse(option, text, expected);
    return {terms[0], terms[1]};
}

double positive(const std::string &option, const std::string &text) {
    const double number = numbers(option, text, 1, "a number above 0")[0];
    if (!(number > 0.0)) refuse(option, text, "a number above 0");
    return number;
}

std::int64_t whole(const std::string &option, const std::string &text, std::int64_t least) {
    const std::string expected = "a whole number from " + std::to_string(least) + " on";
    const double number = numbers(option, text, 1, expected)[0];
    if (number < static_cast<double>(least) || number > 1e15 || number != std::floor(number))
        refuse(option, text, expected);
    return static_cast<std::int64_t>(number);
}

} // namespace

Settings read_settings(int argc, char **argv) {
    Settings settings;
    settings.card = TAU_CARD;
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        if (option == "--channels") {
            settings.list_channels = true;
            continue;
        }
        if (option == "--rejected") {
            settings.keep_rejected = true;
            continue;
        }
        if (option.compare(0, 2, "--") != 0) {
            if (!settings.endpoint.empty())
                throw std::invalid_argument(option + ": there is an endpoint already, " + settings.endpoint);
            settings.endpoint = option;
            continue;
        }
        if (i + 1 == argc || !*argv[i + 1]) throw std::invalid_argument(option + ": expected something to follow it");
        const std::string text = argv[++i];
        if (option == "--px") settings.px = range(option, text);
        else if (option == "--py") settings.py = range(option, text);
        else if (option == "--pz") settings.pz = range(option, text);
        else if (option == "--grid") settings.grid = grid(option, text);
        else if (option == "--noise") settings.noise = positive(option, text);
        else if (option == "--resolution") settings.resolution = resolution(option, text);
        else if (option == "--deposits") settings.deposits = positive(option, text);
        else if (option == TAU_CARD_OPTION) settings.card = text;
        else if (option == "--bare") settings.bare = whole(option, text, 1);
        else if (option == "--decays") settings.decays = whole(option, text, 1);
        else if (option == "--seed") settings.seed = static_cast<std::uint64_t>(whole(option, text, 0));
        else throw std::invalid_argument(option + ": there is no such option");
    }
    if (settings.endpoint.empty() && !settings.list_channels && !settings.bare && !settings.decays)
        throw std::invalid_argument("an endpoint is missing");
    return settings;
}

} // namespace sherpa_tau

#include "ppx/distributions.hpp"

#include <algorithm>

namespace ppx {

struct Distribution::Parts {
    std::vector<Array> arrays;
    std::vector<Distribution> components;
};

Distribution::Distribution(std::uint32_t family, std::vector<Array> arrays, std::vector<Distribution> components)
    : family_(family), parts_(std::make_shared<Parts>(Parts{std::move(arrays), std::move(components)})) {}

void DistributionView::fill(const Distribution &distribution, ppx_distribution &view) {
    view.family = distribution.family_;
    if (!distribution.parts_) {
        for (std::size_t i = 0; i < distribution.numbers_.size(); ++i)
            view.parameters[i].data = &distribution.numbers_[i];
        return;
    }
    const std::vector<Array> &arrays = distribution.parts_->arrays;
    for (std::size_t i = 0; i < std::min(arrays.size(), std::size(view.parameters)); ++i)
        view.parameters[i] = arrays[i].tensor();
    const std::vector<Distribution> &parts = distribution.parts_->components;
    if (parts.empty()) return;
    components_.emplace_back(parts.size());
    ppx_distribution *components = components_.back().data(); // stays where it is when `components_` grows
    for (std::size_t i = 0; i < parts.size(); ++i) fill(parts[i], components[i]);
    view.num_components = static_cast<std::uint32_t>(parts.size());
    view.components = components;
}

} // namespace ppx

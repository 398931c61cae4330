#include "ppx/distributions.hpp"

#include <algorithm>

namespace ppx {

void DistributionView::fill(const Distribution &distribution, ppx_distribution &view) {
    view.family = distribution.family_;
    if (distribution.arrays_.empty()) {
        for (std::size_t i = 0; i < distribution.numbers_.size(); ++i) view.parameters[i].data = &distribution.numbers_[i];
        return;
    }
    const std::size_t count = std::min(distribution.arrays_.size(), std::size(view.parameters));
    for (std::size_t i = 0; i < count; ++i) view.parameters[i] = distribution.arrays_[i].tensor();
    if (distribution.components_.empty()) return;
    components_.emplace_back(distribution.components_.size());
    ppx_distribution *components = components_.back().data(); // stays where it is when `components_` grows
    for (std::size_t i = 0; i < distribution.components_.size(); ++i) fill(distribution.components_[i], components[i]);
    view.num_components = static_cast<std::uint32_t>(distribution.components_.size());
    view.components = components;
}

} // namespace ppx

// Numbers with a shape: parameters and values that are not a single number.

#ifndef PPX_ARRAY_HPP
#define PPX_ARRAY_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "ppx.h"

// A function that is called as such, with a frame of its own, also where a whole program is optimised at once.
#if defined(__has_attribute) && __has_attribute(noipa)
#define PPX_OWN_FRAME __attribute__((noipa))
#else
#define PPX_OWN_FRAME __attribute__((noinline))
#endif

namespace ppx {

// Doubles in row-major order. A single number has the shape {}, a vector of n numbers {n}. All arithmetic types,
// vectors and std::array of them convert to it.
class Array {
public:
    using Shape = std::vector<std::int32_t>;

    Array() : shape_{0} {}

    template <class Number, std::enable_if_t<std::is_arithmetic_v<Number>, int> = 0>
    Array(Number number) : data_{static_cast<double>(number)} {}

    Array(std::vector<double> data) : data_(std::move(data)), shape_{length(data_.size())} {}

    Array(std::initializer_list<double> data) : Array(std::vector<double>(data)) {}

    template <class Number, std::enable_if_t<std::is_arithmetic_v<Number> && !std::is_same_v<Number, double>, int> = 0>
    Array(const std::vector<Number> &data) : Array(std::vector<double>(data.begin(), data.end())) {}

    template <class Number, std::size_t size, std::enable_if_t<std::is_arithmetic_v<Number>, int> = 0>
    Array(const std::array<Number, size> &data) : Array(std::vector<double>(data.begin(), data.end())) {}

    // Throws std::invalid_argument unless there are as many numbers as the shape says, whose dimensions are >= 0.
    Array(std::vector<double> data, Shape shape) : data_(std::move(data)), shape_(std::move(shape)) {
        double size = 1.0;
        bool is_shape = true;
        for (std::int32_t dimension : shape_) {
            size *= dimension;
            is_shape = is_shape && dimension >= 0;
        }
        if (!is_shape || size != static_cast<double>(data_.size()))
            throw std::invalid_argument("ppx::Array: the number of elements does not fit the shape");
    }

    const Shape &shape() const { return shape_; }
    std::size_t size() const { return data_.size(); }
    const double *data() const { return data_.data(); }
    double *data() { return data_.data(); }
    const double *begin() const { return data(); }
    const double *end() const { return data() + size(); }
    double operator[](std::size_t index) const { return data_[index]; } // of the flat, row-major sequence
    double &operator[](std::size_t index) { return data_[index]; }

    friend bool operator==(const Array &a, const Array &b) { return a.shape_ == b.shape_ && a.data_ == b.data_; }
    friend bool operator!=(const Array &a, const Array &b) { return !(a == b); }

    // A view for the C interface. It holds as long as this array.
    ppx_tensor tensor() const {
        return {data_.empty() ? &nothing : data_.data(), shape_.data(), static_cast<std::uint32_t>(shape_.size())};
    }

private:
    static std::int32_t length(std::size_t size) {
        if (size > 0x7fffffff) throw std::length_error("ppx::Array: too many elements");
        return static_cast<std::int32_t>(size);
    }

    static constexpr double nothing = 0.0; // what an array without elements points to: NULL would be "no value"

    std::vector<double> data_;
    Shape shape_;
};

} // namespace ppx

#endif

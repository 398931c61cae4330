// Serving a model to an inference side.

#ifndef PPX_SERVING_HPP
#define PPX_SERVING_HPP

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "array.hpp"

namespace ppx {

// Serving failed: the endpoint cannot be bound, or the transport broke.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

constexpr const char *default_endpoint = "tcp://127.0.0.1:5555";

struct Options {
    std::string name;                    // of the model
    std::string system_name = "ppx-cpp"; // of the front end
    std::string build_id;                // changes when addresses may have changed; "": of the program and its modules
    std::string curve_secret_key;        // 40 characters (Z85): only for peers that know the public key; "": for all
    std::uint32_t disabled = 0;          // capabilities not to announce, bits as on the wire; 63: PPX 1.0.0
    bool control = true;                 // of draws that say nothing of it
    bool stop_with_parent = false;       // also if PPX_STOP_WITH_PARENT=1 is in the environment
    bool stop_on_signals = true;         // SIGTERM and SIGINT, a second one at once; for one of a process
};

// How a model's result becomes numbers; specialised for types that do not convert to an Array.
template <class Type>
struct AsArray {
    static_assert(std::is_constructible_v<Array, const Type &>,
                  "a model returns nothing, a number, or a vector of numbers; specialise ppx::AsArray for other types");
    static Array from(const Type &value) { return Array(value); }
};

namespace detail {

using Result = std::optional<Array>;
using Call = void (*)(void *function, Result &result);

// Calls the model. The library calls this through a pointer that it was given at run time, so that nothing of it is
// inlined into the library and nothing of the library into it.
template <class Function>
struct Entry {
    // Of a pointer to a function the model's own frame comes next, and addresses begin there. Any other callable may
    // have been inlined here, and addresses begin with this frame.
    static constexpr bool is_outside = std::is_pointer_v<Function>;

    PPX_OWN_FRAME static void call(void *function, Result &result) {
        Function &model = *static_cast<Function *>(function);
        if constexpr (std::is_void_v<decltype(model())>) {
            model();
            __asm__ volatile(""); // no jump: this frame stays
        } else {
            result.emplace(AsArray<std::decay_t<decltype(model())>>::from(model()));
        }
    }
};

struct Served; // a session with its model

int serve_main(int argc, char **argv, const Options &options, void *function, Call call, bool call_is_outside);

} // namespace detail

// Serves a model: a callable without arguments that returns nothing, a number, or what converts to an Array. The
// endpoint is bound from construction to destruction. Throws Error.
class FrontEnd {
public:
    template <class Model>
    FrontEnd(Model model, const std::string &endpoint, const Options &options = {})
        : model_(std::make_shared<std::decay_t<Model>>(std::move(model))) {
        using Entry = detail::Entry<std::decay_t<Model>>;
        open(endpoint, options, model_.get(), &Entry::call, Entry::is_outside);
    }
    FrontEnd(const FrontEnd &) = delete;
    FrontEnd &operator=(const FrontEnd &) = delete;

    // Answers the inference side until it is told to stop. The model runs in the thread that calls this; its exceptions
    // are sent to the inference side, and the next execution is served. Throws Error if the transport breaks.
    void serve();

    // Makes serve return, and the model, if it runs, leave by Unwind at its next statement. From any thread or signal
    // handler.
    void stop();

private:
    void open(const std::string &endpoint, const Options &options, void *function, detail::Call call,
              bool call_is_outside);

    std::shared_ptr<void> model_;
    std::shared_ptr<detail::Served> served_; // never shared, but of a type that only the library knows
};

// Serves a model until SIGTERM or SIGINT comes (or what else the options say). Throws Error.
template <class Model>
void serve(const std::string &endpoint, Model model, const Options &options = {}) {
    FrontEnd(std::move(model), endpoint, options).serve();
}

// The whole of a simulator's main: serves at the endpoint that the first argument names, by default
// tcp://127.0.0.1:5555. Returns the exit status; writes to stderr why it is not 0.
template <class Model>
int serve(int argc, char **argv, Model model, const Options &options) {
    using Entry = detail::Entry<std::decay_t<Model>>;
    return detail::serve_main(argc, argv, options, &model, &Entry::call, Entry::is_outside);
}
template <class Model>
int serve(int argc, char **argv, Model model, const std::string &name = "") {
    Options options;
    options.name = name;
    return serve(argc, argv, std::move(model), options);
}

} // namespace ppx

#endif

#include "ppx/serving.hpp"

#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>

#include "execution.hpp"
#include "modules.hpp"
#include "ppx.h"
#include "ppx/statements.hpp"

namespace ppx::detail {
namespace {

struct Close {
    void operator()(ppx_session *session) const { ppx_close(session); }
};

using Session = std::unique_ptr<ppx_session, Close>;

bool stops_with_parent(const Options &options) {
    const char *variable = std::getenv("PPX_STOP_WITH_PARENT");
    return options.stop_with_parent || (variable && std::strcmp(variable, "1") == 0);
}

Session open(const std::string &endpoint, const Options &options) {
    const std::string build_id = options.build_id.empty() ? program_build_id() : options.build_id;
    ppx_options wanted{};
    wanted.system_name = options.system_name.c_str();
    wanted.model_name = options.name.c_str();
    wanted.build_id = build_id.c_str();
    wanted.curve_secret_key = options.curve_secret_key.empty() ? nullptr : options.curve_secret_key.c_str();
    wanted.stop_with_parent = stops_with_parent(options);
    wanted.disabled = options.disabled;
    char error[512] = "";
    Session session(ppx_open(endpoint.c_str(), &wanted, error, sizeof error));
    if (!session) throw Error(error);
    if (options.stop_on_signals && ppx_stop_on_signals(session.get()) != PPX_OK)
        throw Error("another front end of this process stops on signals already: set stop_on_signals to false here");
    return session;
}

std::string demangled(const std::type_info *type) {
    if (!type) return "an exception";
    int status = -1;
    char *text = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
    std::string name = status == 0 && text ? text : type->name();
    std::free(text);
    return name;
}

// What the exception that is being handled says.
std::string describe_exception() {
    const std::string type = demangled(abi::__cxa_current_exception_type());
    try {
        throw;
    } catch (const std::exception &error) {
        return type + ": " + error.what();
    } catch (const std::string &text) {
        return type + ": " + text;
    } catch (const char *text) {
        return type + ": " + (text ? text : "");
    } catch (...) {
        return type;
    }
}

// Calls the model. Its address tells where the model's frames end; nothing may be inlined here or it into another.
PPX_OWN_FRAME void call_model(void *function, Call call, Result &result) {
    call(function, result);
    __asm__ volatile(""); // no jump: this frame stays
}

void run(Execution &execution, void *function, Call call) {
    ppx_session *session = execution.session;
    try {
        const Running running(&execution);
        Result result;
        call_model(function, call, result);
        const ppx_tensor value = result ? result->tensor() : ppx_tensor{};
        ppx_finish(session, result ? &value : nullptr);
    } catch (const Unwind &) {
        ppx_leave(session);
    } catch (const abi::__forced_unwind &) { // the thread is cancelled
        ppx_leave(session);
        throw;
    } catch (...) {
        if (execution.given_up) ppx_leave(session);
        else ppx_fail(session, PPX_ERROR_MODEL, describe_exception().c_str());
    }
}

} // namespace

struct Served {
    Served(const std::string &endpoint, const Options &options, void *function_, Call call_, bool call_is_outside)
        : session(open(endpoint, options)), execution(session.get(), outside(call_, call_is_outside)),
          control(options.control), function(function_), call(call_) {}

    void serve() {
        int code;
        while ((code = ppx_wait_run(session.get())) == PPX_RUN) {
            execution.control = control;
            execution.given_up = false;
            execution.addresses.refresh();
            run(execution, function, call);
        }
        if (code == PPX_FAILED) throw Error(ppx_error_text(session.get()));
    }

    static std::vector<const void *> outside(Call call, bool call_is_outside) {
        std::vector<const void *> functions{reinterpret_cast<const void *>(&call_model)};
        if (call_is_outside) functions.push_back(reinterpret_cast<const void *>(call));
        return functions;
    }

    Session session;
    Execution execution;
    bool control;
    void *function;
    Call call;
};

int serve_main(int argc, char **argv, const Options &options, void *function, Call call, bool call_is_outside) {
    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        std::fprintf(stderr, "usage: %s [endpoint]\n  endpoint: ipc:///path or tcp://address:port; by default %s\n",
                     argv[0], default_endpoint);
        return 2;
    }
    const std::string endpoint = argc == 2 ? argv[1] : default_endpoint;
    try {
        Served(endpoint, options, function, call, call_is_outside).serve();
        return 0;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s: cannot serve at %s: %s\n", argv[0], endpoint.c_str(), error.what());
        return 1;
    }
}

} // namespace ppx::detail

namespace ppx {

void FrontEnd::open(const std::string &endpoint, const Options &options, void *function, detail::Call call,
                    bool call_is_outside) {
    served_ = std::make_shared<detail::Served>(endpoint, options, function, call, call_is_outside);
}

void FrontEnd::serve() { served_->serve(); }

void FrontEnd::stop() { ppx_stop(served_->session.get()); }

} // namespace ppx

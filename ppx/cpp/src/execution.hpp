// The execution that a thread is running, to which its statements go.

#ifndef PPX_EXECUTION_HPP
#define PPX_EXECUTION_HPP

#include <vector>

#include "addresses.hpp"
#include "ppx.h"

namespace ppx::detail {

struct Execution {
    Execution(ppx_session *session_, const std::vector<const void *> &outside)
        : session(session_), addresses(session_, outside) {}

    ppx_session *session;
    Addresses addresses;
    bool control = true;   // of draws that say nothing of it
    bool given_up = false; // Unwind was thrown
};

// Makes an execution the thread's, until the end of its scope.
class Running {
public:
    explicit Running(Execution *execution);
    ~Running();
    Running(const Running &) = delete;
    Running &operator=(const Running &) = delete;

private:
    Execution *before_;
};

} // namespace ppx::detail

#endif

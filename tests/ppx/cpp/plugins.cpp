// A simulator that loads one of two libraries in each execution, in turn, and unloads it again: what is loaded lies where
// the other lay. Usage: plugins ENDPOINT FIRST SECOND

#include <dlfcn.h>

#include <stdexcept>
#include <string>

#include <ppx.hpp>

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int executions = 0;
    const auto model = [&executions, argv] {
        void *library = dlopen(argv[2 + executions++ % 2], RTLD_NOW | RTLD_LOCAL);
        if (!library) throw std::runtime_error(dlerror());
        const double value = reinterpret_cast<double (*)()>(dlsym(library, "plugin"))();
        dlclose(library);
        return value;
    };
    return ppx::serve(2, argv, model, "plugins");
}

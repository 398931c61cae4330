// Rejection scopes that are left from within inner ones. Usage: scopes ENDPOINT

#include <ppx.hpp>

static double scopes() {
    const ppx::Normal normal(0.0, 1.0);
    double x = 0.0;
    ppx::RejectionScope outer("outer");
    for (int pass = 0;; ++pass) {
        ppx::RejectionScope middle("middle");
        x = ppx::sample(normal, "x");
        middle.reject();
        x = ppx::sample(normal, "x");
        ppx::RejectionScope inner("inner");
        ppx::sample(normal, "y");
        if (pass < 2) {
            outer.reject();
            continue; // where the inner ones cease to be
        }
        outer.accept();
        break;
    }
    ppx::sample(normal, "after");
    return x;
}

int main(int argc, char **argv) { return ppx::serve(argc, argv, scopes, "scopes"); }

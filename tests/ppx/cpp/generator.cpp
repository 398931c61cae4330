// The generator of pyprob_cpp's names inside a served model. Usage: generator ENDPOINT

#include <pyprob_cpp.h>

static double forward() { return pyprob_cpp::generator(); }

int main(int argc, char **argv) { return ppx::serve(argc, argv, forward, "generator"); }

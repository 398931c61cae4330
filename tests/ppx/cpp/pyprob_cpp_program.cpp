// A simulator written against the names of the original front end, in all their forms. Not a line of it is ours.

#include <pyprob_cpp.h>

static double marsaglia(double mean, double stddev) {
    auto uniform = pyprob_cpp::distributions::Uniform(-1, 1);
    auto s = 1.0, x = 0.0, y = 0.0;
    while (s >= 1) {
        x = pyprob_cpp::sample(uniform, true, false)(0);
        y = pyprob_cpp::sample(uniform, true, false)(0);
        s = x * x + y * y;
    }
    return mean + stddev * (x * std::sqrt(-2 * std::log(s) / s));
}

xt::xarray<double> forward() {
    auto mu = marsaglia(1, std::sqrt(5));

    pyprob_cpp::setDefaultControl(false);
    auto nuisance_prior = pyprob_cpp::distributions::Normal(xt::xarray<double>{0.0, 1.0}, xt::xarray<double>{0.1, 0.2});
    xt::xarray<double> nuisance = pyprob_cpp::sample(nuisance_prior, "nuisance");
    pyprob_cpp::setDefaultControl();

    auto kind_prior = pyprob_cpp::distributions::Categorical(xt::xarray<double>{0.1, 0.5, 0.4});
    int kind = pyprob_cpp::sample(kind_prior, std::string("kind"))(0);
    auto scale_prior = pyprob_cpp::distributions::Gamma(2.0, 3.0);
    auto scale = pyprob_cpp::sample(scale_prior, true, "scale");

    auto shifted_prior = pyprob_cpp::distributions::Normal(scale, 0.5);
    auto shifted = pyprob_cpp::sample(shifted_prior);

    auto likelihood = pyprob_cpp::distributions::Normal(mu + shifted, std::sqrt(2));
    pyprob_cpp::observe(likelihood, "obs0");
    pyprob_cpp::observe(likelihood, 9, "obs1");
    pyprob_cpp::observe(likelihood, 7.5);
    pyprob_cpp::tag(nuisance, "nuisance_tag");
    pyprob_cpp::tag(kind);
    return xt::xarray<double>{mu, scale(0)};
}

int main(int argc, char *argv[]) {
    auto serverAddress = (argc > 1) ? argv[1] : "tcp://*:5555";
    pyprob_cpp::Model model = pyprob_cpp::Model(forward, "pyprob_cpp program C++");
    model.startServer(serverAddress);
    return 0;
}

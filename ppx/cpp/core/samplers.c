/* The samplers of PROTOCOL.md, section 11: explicit algorithms over uniforms, so that both sides draw the same numbers.
 * Compiled without contraction to fused multiply-add; the order of the operations is part of the protocol. */

#include "random.h"

#include <float.h>
#include <math.h>

static const double PI = 3.141592653589793;
static const double SQRT_2 = 1.4142135623730951;

static double limit(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

static double standard_normal(ppx_stream *stream) { return ppx_normal_quantile(ppx_uniform(stream)); }

size_t ppx_draw_category(ppx_stream *stream, const double *probs, size_t count) {
    double total = probs[0], threshold, sum;
    size_t k = 0;
    for (size_t i = 1; i < count; i++) total = total + probs[i];
    threshold = ppx_uniform(stream) * total;
    for (sum = probs[0]; !(threshold < sum) && k + 1 < count; sum = sum + probs[k]) k++;
    if (threshold < sum) return k;
    /* Totals of a few times the smallest number: the last category of positive weight stands in. */
    for (k = 0, sum = probs[0]; sum < total; sum = sum + probs[k]) k++;
    return k;
}

/* Marsaglia and Tsang (2000), rate 1. */
static double standard_gamma(ppx_stream *stream, double a) {
    double d, c;
    if (a < 1.0) {
        double g = standard_gamma(stream, a + 1.0);
        return g * pow(ppx_uniform(stream), 1.0 / a);
    }
    d = a - 1.0 / 3.0;
    c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = standard_normal(stream), t = 1.0 + c * x, v, u;
        if (t <= 0.0) continue;
        v = t * t * t;
        u = ppx_uniform(stream);
        if (u < 1.0 - 0.0331 * x * x * x * x) return d * v;
        if (log(u) < 0.5 * x * x + d * (1.0 - v + log(v))) return d * v;
    }
}

/* Jöhnk (1964), in logarithms, because powers of 1 / a underflow where both concentrations are small. */
static double beta_of_small(ppx_stream *stream, double a, double b) {
    for (;;) {
        double x = limit(log(ppx_uniform(stream)) / a, -DBL_MAX, 0.0),
               y = limit(log(ppx_uniform(stream)) / b, -DBL_MAX, 0.0);
        double ratio;
        if (exp(x) + exp(y) > 1.0) continue;
        if (x > y) return 1.0 / (1.0 + exp(y - x));
        ratio = exp(x - y);
        return ratio / (1.0 + ratio);
    }
}

static double beta(ppx_stream *stream, double a, double b) {
    double value;
    if (a < 1.0 && b < 1.0) {
        value = beta_of_small(stream, a, b);
    } else {
        double x = standard_gamma(stream, a), y = standard_gamma(stream, b);
        value = x / (x + y);
    }
    return limit(value, DBL_MIN, 1.0 - 0x1p-53);
}

static double log_factorial(double k) {
    static const double exact[16] = {
        1.0,     1.0,      2.0,       6.0,        24.0,        120.0,        720.0,         5040.0,
        40320.0, 362880.0, 3628800.0, 39916800.0, 479001600.0, 6227020800.0, 87178291200.0, 1307674368000.0};
    double n, i, s;
    if (k < 16.0) return log(exact[(int)k]);
    n = k + 1.0;
    i = 1.0 / (n * n);
    s = (1.0 / 12.0 - i * (1.0 / 360.0 - i * (1.0 / 1260.0 - i / 1680.0))) / n;
    return (n - 0.5) * log(n) - n + 0.9189385332046727 + s;
}

/* Inversion for small rates, PTRS of Hörmann (1993) for others. */
static double poisson(ppx_stream *stream, double rate) {
    double a, b, h, w;
    if (rate < 10.0) {
        double u = ppx_uniform(stream), k = 0.0, m = exp(-rate), c = m;
        while (u >= c && m > 0.0) {
            k = k + 1.0;
            m = m * (rate / k);
            c = c + m;
        }
        return k;
    }
    b = 0.931 + 2.53 * sqrt(rate);
    a = -0.059 + 0.02483 * b;
    h = 1.1239 + 1.1328 / (b - 3.4);
    w = 0.9277 - 3.6224 / (b - 2.0);
    for (;;) {
        double u = ppx_uniform(stream) - 0.5, v = ppx_uniform(stream), s = 0.5 - fabs(u);
        double k = floor((2.0 * a / s + b) * u + rate + 0.43);
        if (s >= 0.07 && v <= w) return k;
        if (k < 0.0 || (s < 0.013 && v > s)) continue;
        if (log(v * h / (a / (s * s) + b)) <= k * log(rate) - rate - log_factorial(k)) return k;
    }
}

/* Inversion for small means, BTRS of Hörmann (1993) for others. */
static double binomial(ppx_stream *stream, double n, double p) {
    double q, a, b, e, w, f, l, m, h;
    if (p > 0.5) return n - binomial(stream, n, 1.0 - p);
    if (n * p < 10.0) {
        double u = ppx_uniform(stream), k = 0.0, mass = exp(n * log1p(-p)), c = mass, odds = p / (1.0 - p);
        while (u >= c && k < n && mass > 0.0) {
            k = k + 1.0;
            mass = mass * (odds * (n - k + 1.0) / k);
            c = c + mass;
        }
        return k;
    }
    q = sqrt(n * p * (1.0 - p));
    b = 1.15 + 2.53 * q;
    a = -0.0873 + 0.0248 * b + 0.01 * p;
    e = n * p + 0.5;
    w = 0.92 - 4.2 / b;
    f = (2.83 + 5.1 / b) * q;
    l = log(p / (1.0 - p));
    m = floor((n + 1.0) * p);
    h = log_factorial(m) + log_factorial(n - m);
    for (;;) {
        double u = ppx_uniform(stream) - 0.5, v = ppx_uniform(stream), s = 0.5 - fabs(u);
        double k = floor((2.0 * a / s + b) * u + e);
        if (s >= 0.07 && v <= w) return k;
        if (k < 0.0 || k > n) continue;
        if (log(v * f / (a / (s * s) + b)) <= h - log_factorial(k) - log_factorial(n - k) + (k - m) * l) return k;
    }
}

/* The far left tail, below b << 0 and above a: Robert (1995), from an exponential that is itself cut off at a. */
static double normal_tail(ppx_stream *stream, double a, double b) {
    double cut = expm1(b * (b - a));
    for (;;) {
        double step = log1p(ppx_uniform(stream) * cut) / b;
        if (ppx_uniform(stream) < exp(-0.5 * step * step)) return b - step;
    }
}

static double truncated_normal(ppx_stream *stream, const double *parameters) {
    double loc = parameters[0], scale = parameters[1], low = parameters[2], high = parameters[3];
    double a = (low - loc) / scale, b = (high - loc) / scale, x;
    bool flip = a > 0.0; /* the left tail keeps the precision of the distribution function */
    if (flip) {
        double upper = -a;
        a = -b;
        b = upper;
    }
    if (b == -INFINITY) return flip ? low : high;
    if (b < -8.0) {
        x = normal_tail(stream, a, b);
    } else {
        double l = 0.5 * erfc(-a / SQRT_2), p = l + ppx_uniform(stream) * (0.5 * erfc(-b / SQRT_2) - l);
        x = ppx_normal_quantile(p < 1.0 ? p : 1.0 - 0x1p-53);
    }
    return limit(loc + scale * (flip ? -x : x), low, high);
}

/* Best and Fisher (1979), written so that nothing cancels where the concentration is large or overflows where it is
 * small. */
static double von_mises(ppx_stream *stream, double loc, double k) {
    double h = 0.5 + 0.5 / (sqrt(1.0 + 4.0 * k * k) + 2.0 * k), w = limit(k / h, 0.0, 1e300), r = 1.0 + 2.0 * w, t, x,
           turned;
    for (;;) {
        double y, c, u;
        t = 0.5 * PI * ppx_uniform(stream);
        y = cos(t);
        c = h * r / (1.0 + 2.0 * w * y * y);
        u = ppx_uniform(stream);
        if (c * (2.0 - c) > u || log(c / u) + 1.0 >= c) break;
    }
    x = 2.0 * atan(tan(t) / sqrt(r));
    x = ppx_uniform(stream) > 0.5 ? loc + x : loc - x;
    if (x >= -PI && x < PI) return x;
    turned = fmod(x + PI, 2.0 * PI);
    if (turned < 0.0) turned = turned + 2.0 * PI;
    turned = turned - PI;
    return turned < PI ? turned : -PI;
}

static double log_normal(ppx_stream *stream, double loc, double scale) {
    double exponent = loc + scale * standard_normal(stream);
    if (log(DBL_MIN) < exponent && exponent < log(DBL_MAX)) return exp(exponent);
    return exponent < 0.0 ? DBL_MIN : DBL_MAX;
}

static const double LARGEST_COUNT = 0x1p53;

/* A Poisson draw of a gamma distributed rate. */
static double negative_binomial(ppx_stream *stream, double mean, double concentration) {
    double g = standard_gamma(stream, concentration), rate = g > 0.0 ? g * (mean / concentration) : 0.0;
    return poisson(stream, rate < LARGEST_COUNT ? rate : LARGEST_COUNT);
}

static double geometric(ppx_stream *stream, double p) {
    double failures;
    if (p == 1.0) return 0.0;
    failures = log(ppx_uniform(stream)) / log1p(-p);
    return floor(failures < LARGEST_COUNT ? failures : LARGEST_COUNT);
}

static double urn_weight(double k, double successes, double draws, double rest) {
    double sum = log_factorial(k) + log_factorial(successes - k);
    sum = sum + log_factorial(draws - k);
    return -(sum + log_factorial(rest - draws + k));
}

/* Devroye (1987), of log-concave laws, from the mode. */
static double hypergeometric(ppx_stream *stream, double population, double successes, double draws) {
    double rest = population - successes, low = draws - rest > 0.0 ? draws - rest : 0.0;
    double high = successes < draws ? successes : draws, mode, total, at_mode, mass, w;
    if (low == high) return low;
    total = log_factorial(successes) + log_factorial(rest) + log_factorial(draws);
    total = total + log_factorial(population - draws) - log_factorial(population);
    if (draws * (successes / population) - low < 10.0) {
        double u = ppx_uniform(stream), k = low, c;
        mass = exp(total + urn_weight(low, successes, draws, rest));
        c = mass;
        while (u >= c && k < high && mass > 0.0) {
            mass = mass * ((successes - k) * (draws - k) / ((k + 1.0) * (rest - draws + k + 1.0)));
            k = k + 1.0;
            c = c + mass;
        }
        return k;
    }
    mode = limit(floor((draws + 1.0) * (successes + 1.0) / (population + 2.0)), low, high);
    at_mode = urn_weight(mode, successes, draws, rest);
    mass = exp(total + at_mode);
    w = 1.0 + 0.5 * mass;
    for (;;) {
        double u = ppx_uniform(stream) - 0.5, z = ppx_uniform(stream), v = 2.0 * fabs(u) * (1.0 + w);
        double y, cover = 1.0, step, k;
        if (v <= w) {
            y = v / mass;
        } else {
            cover = 1.0 + w - v;
            if (cover <= 0.0) continue;
            y = (w - log(cover)) / mass;
        }
        step = floor(y + 0.5);
        k = u < 0.0 ? mode - step : mode + step;
        if (k < low || k > high) continue;
        if (log(z * cover) <= urn_weight(k, successes, draws, rest) - at_mode) return k;
    }
}

static double student_t(ppx_stream *stream, double df, double loc, double scale) {
    double z = standard_normal(stream), half = 0.5 * df > DBL_MIN ? 0.5 * df : DBL_MIN;
    double mean_square = standard_gamma(stream, half) / half;
    return limit(loc + scale * (z / sqrt(mean_square > DBL_MIN ? mean_square : DBL_MIN)), -DBL_MAX, DBL_MAX);
}

static double laplace(ppx_stream *stream, double loc, double scale) {
    double u = ppx_uniform(stream);
    return u < 0.5 ? loc + scale * log(2.0 * u) : loc - scale * log(2.0 * (1.0 - u));
}

static double logistic(ppx_stream *stream, double loc, double scale) {
    double u = ppx_uniform(stream);
    return loc + scale * (log(u) - log1p(-u));
}

static double inverse_gamma(ppx_stream *stream, double concentration, double rate) {
    double g = standard_gamma(stream, concentration);
    return limit(rate / (g > DBL_MIN ? g : DBL_MIN), DBL_MIN, DBL_MAX);
}

static double pareto(ppx_stream *stream, double scale, double alpha) {
    double exponent = -log(ppx_uniform(stream)) / alpha;
    return exponent < 709.0 ? limit(scale * exp(exponent), 0.0, DBL_MAX) : DBL_MAX;
}

double ppx_draw_scalar(ppx_stream *stream, uint32_t family, const double *parameters) {
    double a = parameters[0];
    switch (family) {
        case PPX_NORMAL: return a + parameters[1] * standard_normal(stream);
        case PPX_UNIFORM: return a + (parameters[1] - a) * ppx_uniform(stream);
        case PPX_POISSON: return poisson(stream, a);
        case PPX_BERNOULLI: return ppx_uniform(stream) < a ? 1.0 : 0.0;
        case PPX_BETA: return beta(stream, a, parameters[1]);
        case PPX_EXPONENTIAL: return limit(-log(ppx_uniform(stream)) / a, 0.0, DBL_MAX);
        case PPX_GAMMA: return limit(standard_gamma(stream, a) / parameters[1], DBL_MIN, DBL_MAX);
        case PPX_LOG_NORMAL: return log_normal(stream, a, parameters[1]);
        case PPX_BINOMIAL: return binomial(stream, a, parameters[1]);
        case PPX_WEIBULL: return limit(a * pow(-log(ppx_uniform(stream)), 1.0 / parameters[1]), DBL_MIN, DBL_MAX);
        case PPX_TRUNCATED_NORMAL: return truncated_normal(stream, parameters);
        case PPX_VON_MISES: return von_mises(stream, a, parameters[1]);
        case PPX_NEGATIVE_BINOMIAL: return negative_binomial(stream, a * (parameters[1] / (1.0 - parameters[1])), a);
        case PPX_NEGATIVE_BINOMIAL_2: return negative_binomial(stream, a, parameters[1]);
        case PPX_BETA_BINOMIAL: return binomial(stream, parameters[2], beta(stream, a, parameters[1]));
        case PPX_GEOMETRIC: return geometric(stream, a);
        case PPX_HYPERGEOMETRIC: return hypergeometric(stream, a, parameters[1], parameters[2]);
        case PPX_ZERO_INFLATED_POISSON: return ppx_uniform(stream) < a ? 0.0 : poisson(stream, parameters[1]);
        case PPX_STUDENT_T: return student_t(stream, a, parameters[1], parameters[2]);
        case PPX_CAUCHY:
            return limit(a + parameters[1] * tan(PI * (ppx_uniform(stream) - 0.5)), -DBL_MAX, DBL_MAX);
        case PPX_HALF_CAUCHY: return limit(a * tan(0.5 * PI * ppx_uniform(stream)), 0.0, DBL_MAX);
        case PPX_HALF_NORMAL: return limit(a * fabs(standard_normal(stream)), 0.0, DBL_MAX);
        case PPX_LAPLACE: return laplace(stream, a, parameters[1]);
        case PPX_LOGISTIC: return logistic(stream, a, parameters[1]);
        case PPX_GUMBEL: return a - parameters[1] * log(-log(ppx_uniform(stream)));
        case PPX_INVERSE_GAMMA: return inverse_gamma(stream, a, parameters[1]);
        case PPX_PARETO: return pareto(stream, a, parameters[1]);
        default: return a; /* Delta */
    }
}

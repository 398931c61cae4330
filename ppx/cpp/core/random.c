/* Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011) and the normal quantile function, as PROTOCOL.md, section
 * 11. */

#include "random.h"

#include <math.h>

static void philox(uint64_t block, uint64_t index, uint64_t seed, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = (uint32_t)index, c3 = (uint32_t)(index >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = 0xD2511F53u * (uint64_t)c0, p1 = 0xCD9E8D57u * (uint64_t)c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static double to_uniform(uint32_t low, uint32_t high) {
    uint64_t word = low | (uint64_t)high << 32;
    return ((double)(word >> 12) + 0.5) * 0x1p-52;
}

void ppx_stream_start(ppx_stream *stream, uint64_t seed, uint64_t index, uint64_t position) {
    uint32_t words[4];
    *stream = (ppx_stream){seed, index, position, 0.0};
    if (position % 2) {
        philox(position / 2, index, seed, words);
        stream->second = to_uniform(words[2], words[3]);
    }
}

double ppx_uniform(ppx_stream *stream) {
    uint32_t words[4];
    if (stream->position++ % 2) return stream->second;
    philox((stream->position - 1) / 2, stream->index, stream->seed, words);
    stream->second = to_uniform(words[2], words[3]);
    return to_uniform(words[0], words[1]);
}

static double horner(const double coefficients[8], double r) {
    double sum = coefficients[0];
    for (int i = 1; i < 8; i++) sum = sum * r + coefficients[i];
    return sum;
}

double ppx_normal_quantile(double p) {
    static const double A[8] = {2.5090809287301226727e+3, 3.3430575583588128105e+4, 6.7265770927008700853e+4,
                                4.5921953931549871457e+4, 1.3731693765509461125e+4, 1.9715909503065514427e+3,
                                1.3314166789178437745e+2, 3.3871328727963666080e+0};
    static const double B[8] = {
        5.2264952788528545610e+3, 2.8729085735721942674e+4, 3.9307895800092710610e+4, 2.1213794301586595867e+4,
        5.3941960214247511077e+3, 6.8718700749205790830e+2, 4.2313330701600911252e+1, 1.0};
    static const double C[8] = {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                                1.27045825245236838258e+0, 3.64784832476320460504e+0, 5.76949722146069140550e+0,
                                4.63033784615654529590e+0, 1.42343711074968357734e+0};
    static const double D[8] = {
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
        6.89767334985100004550e-1, 1.67638483018380384940e+0, 2.05319162663775882187e+0, 1.0};
    static const double E[8] = {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
                                2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e+0,
                                5.46378491116411436990e+0, 6.65790464350110377720e+0};
    static const double F[8] = {
        2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
        1.48753612908506148525e-2,  1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0};
    double q = p - 0.5, r, x;
    if (fabs(q) <= 0.425) {
        r = 0.180625 - q * q;
        return horner(A, r) * q / horner(B, r);
    }
    r = sqrt(-log(q <= 0.0 ? p : 1.0 - p));
    if (r <= 5.0) {
        r = r - 1.6;
        x = horner(C, r) / horner(D, r);
    } else {
        r = r - 5.0;
        x = horner(E, r) / horner(F, r);
    }
    return q < 0.0 ? -x : x;
}

/* Arrays of draws: the samplers of the C core (ppx/cpp/core), which give the bits of the Python ones, in a loop.
 *
 * ppl_jax/distributions/arrays.py calls this where it was built, and lends it its arrays. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdbool.h>

#include "random.h"

enum { MOST = 4 }; /* parameters of a family */

static const struct {
    const char *name;
    uint32_t number;
    Py_ssize_t parameters;
} FAMILIES[] = {
    {"Normal", PPX_NORMAL, 2},
    {"Uniform", PPX_UNIFORM, 2},
    {"Poisson", PPX_POISSON, 1},
    {"Bernoulli", PPX_BERNOULLI, 1},
    {"Beta", PPX_BETA, 2},
    {"Exponential", PPX_EXPONENTIAL, 1},
    {"Gamma", PPX_GAMMA, 2},
    {"LogNormal", PPX_LOG_NORMAL, 2},
    {"Binomial", PPX_BINOMIAL, 2},
    {"Weibull", PPX_WEIBULL, 2},
    {"TruncatedNormal", PPX_TRUNCATED_NORMAL, 4},
    {"VonMises", PPX_VON_MISES, 2},
    {"Delta", PPX_DELTA, 1},
    {"NegativeBinomial", PPX_NEGATIVE_BINOMIAL, 2},
    {"NegativeBinomial2", PPX_NEGATIVE_BINOMIAL_2, 2},
    {"BetaBinomial", PPX_BETA_BINOMIAL, 3},
    {"Geometric", PPX_GEOMETRIC, 1},
    {"Hypergeometric", PPX_HYPERGEOMETRIC, 3},
    {"ZeroInflatedPoisson", PPX_ZERO_INFLATED_POISSON, 2},
    {"StudentT", PPX_STUDENT_T, 3},
    {"Cauchy", PPX_CAUCHY, 2},
    {"HalfCauchy", PPX_HALF_CAUCHY, 1},
    {"HalfNormal", PPX_HALF_NORMAL, 1},
    {"Laplace", PPX_LAPLACE, 2},
    {"Logistic", PPX_LOGISTIC, 2},
    {"Gumbel", PPX_GUMBEL, 2},
    {"InverseGamma", PPX_INVERSE_GAMMA, 2},
    {"Pareto", PPX_PARETO, 2},
};
enum { NUM_FAMILIES = sizeof FAMILIES / sizeof *FAMILIES };

/* The stream that three arguments (seed, index, position) name. */
static bool start(ppx_stream *stream, PyObject *const *arguments) {
    uint64_t words[3];
    for (int i = 0; i < 3; i++) {
        words[i] = PyLong_AsUnsignedLongLong(arguments[i]);
        if (PyErr_Occurred()) return false;
    }
    ppx_stream_start(stream, words[0], words[1], words[2]);
    return true;
}

/* The float64 numbers of an object with a contiguous buffer. */
static bool borrow(PyObject *array, Py_buffer *buffer, int flags) {
    if (PyObject_GetBuffer(array, buffer, flags)) return false;
    if (buffer->itemsize == sizeof(double)) return true;
    PyBuffer_Release(buffer);
    PyErr_SetString(PyExc_TypeError, "arrays of draws are of float64");
    return false;
}

static size_t length_of(const Py_buffer *buffer) { return (size_t)buffer->len / sizeof(double); }

static void fill(ppx_stream *stream, uint32_t family, size_t size, double *values, Py_ssize_t count,
                 const double *const *data, const size_t *steps) {
    double parameters[MOST] = {0};
    for (size_t element = 0; element < size; element++) {
        for (Py_ssize_t i = 0; i < count; i++) parameters[i] = data[i][element * steps[i]];
        values[element] = ppx_draw_scalar(stream, family, parameters);
    }
}

/* elements(family, seed, index, position, values, *parameters) -> the position after: fills `values`. */
static PyObject *elements(PyObject *module, PyObject *const *arguments, Py_ssize_t given) {
    Py_buffer buffers[1 + MOST];
    double numbers[MOST];
    const double *data[MOST];
    size_t steps[MOST], size, row;
    Py_ssize_t count = given - 5, borrowed = 0;
    ppx_stream stream;
    PyObject *position = NULL;
    (void)module;
    row = given < 5 ? NUM_FAMILIES : PyLong_AsSize_t(arguments[0]);
    if (PyErr_Occurred()) return NULL;
    if (row >= NUM_FAMILIES || count != FAMILIES[row].parameters) {
        PyErr_SetString(PyExc_TypeError, "elements(family, seed, index, position, values, *parameters)");
        return NULL;
    }
    if (!start(&stream, arguments + 1) || !borrow(arguments[4], &buffers[0], PyBUF_CONTIG | PyBUF_FORMAT)) return NULL;
    borrowed = 1;
    size = length_of(&buffers[0]);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *parameter = arguments[5 + i];
        if (PyFloat_Check(parameter)) {
            numbers[i] = PyFloat_AsDouble(parameter);
            data[i] = &numbers[i];
            steps[i] = 0;
            continue;
        }
        if (!borrow(parameter, &buffers[borrowed], PyBUF_CONTIG_RO | PyBUF_FORMAT)) goto done;
        data[i] = buffers[borrowed++].buf;
        steps[i] = 1;
        if (length_of(&buffers[borrowed - 1]) != size) {
            PyErr_SetString(PyExc_ValueError, "a parameter is one number, or one for each element");
            goto done;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    fill(&stream, FAMILIES[row].number, size, buffers[0].buf, count, data, steps);
    Py_END_ALLOW_THREADS
    position = PyLong_FromUnsignedLongLong(stream.position);
done:
    while (borrowed--) PyBuffer_Release(&buffers[borrowed]);
    return position;
}

/* The first k for which sums[k] lies above x, or is not below it. */
static size_t bisect(const double *sums, size_t count, double x, bool above) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (above ? x < sums[middle] : x <= sums[middle]) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* categories(seed, index, position, values, sums) -> the position after: fills `values` from rows of running sums. */
static PyObject *categories(PyObject *module, PyObject *const *arguments, Py_ssize_t given) {
    Py_buffer values, sums;
    ppx_stream stream;
    PyObject *position = NULL;
    size_t size, count;
    (void)module;
    if (given != 5) {
        PyErr_SetString(PyExc_TypeError, "categories(seed, index, position, values, sums)");
        return NULL;
    }
    if (!start(&stream, arguments) || !borrow(arguments[3], &values, PyBUF_CONTIG | PyBUF_FORMAT)) return NULL;
    if (!borrow(arguments[4], &sums, PyBUF_CONTIG_RO | PyBUF_FORMAT)) {
        PyBuffer_Release(&values);
        return NULL;
    }
    size = length_of(&values);
    count = size ? length_of(&sums) / size : 0;
    for (size_t element = 0; element < size && count; element++) {
        const double *row = (const double *)sums.buf + element * count;
        size_t k = bisect(row, count, ppx_uniform(&stream) * row[count - 1], true);
        ((double *)values.buf)[element] = (double)(k < count ? k : bisect(row, count, row[count - 1], false));
    }
    position = PyLong_FromUnsignedLongLong(stream.position);
    PyBuffer_Release(&sums);
    PyBuffer_Release(&values);
    return position;
}

static PyMethodDef METHODS[] = {
    {"elements", (PyCFunction)(void (*)(void))elements, METH_FASTCALL, "Fills an array with draws of a family."},
    {"categories", (PyCFunction)(void (*)(void))categories, METH_FASTCALL, "Fills an array with categories."},
    {NULL, NULL, 0, NULL},
};

static int add_families(PyObject *module) {
    PyObject *rows = PyDict_New();
    if (!rows) return -1;
    for (Py_ssize_t i = 0; i < NUM_FAMILIES; i++) {
        PyObject *row = PyLong_FromSsize_t(i);
        int failed = !row || PyDict_SetItemString(rows, FAMILIES[i].name, row);
        Py_XDECREF(row);
        if (failed) {
            Py_DECREF(rows);
            return -1;
        }
    }
    if (PyModule_AddObjectRef(module, "FAMILIES", rows)) {
        Py_DECREF(rows);
        return -1;
    }
    Py_DECREF(rows);
    return 0;
}

static PyModuleDef_Slot SLOTS[] = {{Py_mod_exec, (void *)add_families}, {0, NULL}};

static PyModuleDef MODULE = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_draws",
    .m_doc = "Arrays of draws by the samplers of the C core.",
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__draws(void) { return PyModuleDef_Init(&MODULE); }

/* The process that is copied has no ZeroMQ context and never runs the model: neither contexts nor threads are in a
 * copy. Its copies are its children; it collects those that end, and ends those that are left when it ends. */

#define _GNU_SOURCE

#include "forks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "session.h"

static const char VARIABLE[] = "PPX_FORK_SERVER";

enum { PACKET = 8192, LONGEST_NUMBER = 20, FIELDS = 4 }; /* bytes, digits, words of a request */
enum { SLICE = 100, GRACE = 2000 };                       /* milliseconds */

typedef struct {
    pid_t pid;
    bool ended;
    int status; /* as waitpid gives it */
    char *endpoint;
} copy_process;

typedef struct {
    int socket;
    copy_process *copies;
    size_t count, room;
} server;

/* -- the socket -- */

int ppx_forks_socket(void) {
    const char *text = getenv(VARIABLE);
    struct stat status;
    char *end;
    long number;
    if (!text || !*text) return -1;
    number = strtol(text, &end, 10);
    if (*end || number < 0 || number > 1 << 20) return -1;
    if (fstat((int)number, &status) || !S_ISSOCK(status.st_mode)) return -1;
    if (fcntl((int)number, F_SETFD, FD_CLOEXEC)) return -1;
    unsetenv(VARIABLE);
    return (int)number;
}

static int number_of_threads(void) {
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    int count = 0;
    if (!folder) return 1;
    while ((entry = readdir(folder)))
        if (entry->d_name[0] != '.') count++;
    closedir(folder);
    return count;
}

/* `word` and `value` are short. What is longer than any number is cut: the answer must fit its packet. */
static void reply(const server *forks, const char *number, const char *word, const char *value) {
    char packet[PACKET];
    int size = snprintf(packet, sizeof packet, "%.*s%c%s%c%s", LONGEST_NUMBER, number, 0, word, 0, value);
    while (send(forks->socket, packet, (size_t)size, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

/* -- the copies -- */

/* Sends a signal to a copy and what it started. */
static void signal_copy(const copy_process *copy, int number) {
    if (copy->ended) return;
    if (kill(-copy->pid, number) && errno == ESRCH) kill(copy->pid, number); /* it leads no session yet */
}

/* Collects a copy if it has ended; what it started ends with it. */
static void look_at(copy_process *copy) {
    siginfo_t information = {0};
    if (copy->ended || waitid(P_PID, (id_t)copy->pid, &information, WEXITED | WNOHANG | WNOWAIT) ||
        !information.si_pid)
        return;
    kill(-copy->pid, SIGKILL); /* while it is not collected its number can be nobody else's */
    while (waitpid(copy->pid, &copy->status, 0) < 0 && errno == EINTR) {
    }
    copy->ended = true;
}

static void wait_a_little(void) {
    static const struct timespec time = {.tv_nsec = 1000000};
    nanosleep(&time, NULL);
}

static void end_at_once(copy_process *copy) {
    signal_copy(copy, SIGKILL);
    while (!copy->ended) {
        look_at(copy);
        if (!copy->ended) wait_a_little();
    }
}

static void forget(server *forks, size_t place) {
    free(forks->copies[place].endpoint);
    forks->copies[place] = forks->copies[--forks->count];
}

/* The process is no longer needed: its copies are asked to end, and then made to. */
static void end(server *forks) {
    size_t left = forks->count;
    for (size_t i = 0; i < forks->count; i++) signal_copy(&forks->copies[i], SIGTERM);
    for (int waited = 0; left && waited < GRACE; waited++) {
        left = 0;
        for (size_t i = 0; i < forks->count; i++) {
            look_at(&forks->copies[i]);
            left += !forks->copies[i].ended;
        }
        if (left) wait_a_little();
    }
    for (size_t i = 0; i < forks->count; i++) end_at_once(&forks->copies[i]);
    fflush(NULL); /* what the start has said, if no copy was ever made */
    _exit(0);     /* nothing was run here, so nothing is to be concluded */
}

/* -- in a copy -- */

static char *be_copy(server *forks, ppx_session *session, pid_t original, const char *endpoint, const char *output) {
    int file;
    char *bound;
    close(forks->socket);
    setsid();
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    if (getppid() != original) _exit(1);
    session->parent = (long)original;
    file = open(output, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || dup2(file, 1) < 0 || dup2(file, 2) < 0) {
        snprintf(session->text, sizeof session->text, "cannot write to %s: %s", output, strerror(errno));
        return NULL;
    }
    if (file > 2)
        close(file);
    else /* one of them was closed, and this is it */
        fcntl(file, F_SETFD, 0);
    bound = strdup(endpoint);
    if (!bound) snprintf(session->text, sizeof session->text, "memory ran out");
    return bound;
}

/* -- requests -- */

static copy_process *new_copy(server *forks) {
    if (forks->count == forks->room) {
        size_t room = forks->room ? 2 * forks->room : 16;
        copy_process *grown = realloc(forks->copies, room * sizeof *grown);
        if (!grown) return NULL;
        forks->copies = grown;
        forks->room = room;
    }
    return &forks->copies[forks->count];
}

/* Makes a copy. True in it. */
static bool fork_copy(server *forks, char *const *words) {
    copy_process *copy;
    char *endpoint, text[16];
    pid_t pid;
    for (size_t i = forks->count; i-- > 0;) /* whoever asks again has lost the one before */
        if (strcmp(forks->copies[i].endpoint, words[2]) == 0) {
            end_at_once(&forks->copies[i]);
            forget(forks, i);
        }
    copy = new_copy(forks);
    endpoint = copy ? strdup(words[2]) : NULL;
    if (!endpoint) {
        reply(forks, words[0], "failed", "memory ran out");
        return false;
    }
    fflush(NULL); /* what is not yet written would be written by every copy */
    pid = fork();
    if (pid == 0) {
        free(endpoint);
        return true;
    }
    if (pid < 0) {
        reply(forks, words[0], "failed", strerror(errno));
        free(endpoint);
        return false;
    }
    *copy = (copy_process){pid, false, 0, endpoint};
    forks->count++;
    snprintf(text, sizeof text, "%ld", (long)pid);
    reply(forks, words[0], "forked", text);
    return false;
}

/* Says how a copy is; "signal" sends it a signal before. */
static void tell_of_copy(server *forks, char *const *words) {
    long pid = strtol(words[2], NULL, 10);
    char status[16];
    for (size_t i = 0; i < forks->count; i++) {
        copy_process *copy = &forks->copies[i];
        if ((long)copy->pid != pid) continue;
        if (strcmp(words[1], "signal") == 0) signal_copy(copy, atoi(words[3]));
        look_at(copy);
        if (!copy->ended) {
            reply(forks, words[0], "runs", "");
            return;
        }
        snprintf(status, sizeof status, "%d", copy->status);
        forget(forks, i);
        reply(forks, words[0], "ended", status);
        return;
    }
    reply(forks, words[0], "unknown", "");
}

/* Splits a request into its words. */
static void split(char *packet, size_t size, char *words[FIELDS]) {
    size_t at = 0;
    for (int field = 0; field < FIELDS; field++) {
        words[field] = packet + at;
        at += strlen(packet + at);
        if (at < size) at++;
    }
}

/* Answers the next request, if there is one. True in a copy, whose request `packet` then holds, in `words`. */
static bool answer(server *forks, char packet[PACKET + 1], char *words[FIELDS]) {
    ssize_t size = recv(forks->socket, packet, PACKET, 0);
    if (size < 0 && (errno == EINTR || errno == EAGAIN)) return false;
    if (size <= 0) end(forks); /* the other side has closed it, or is gone */
    packet[size] = 0;
    split(packet, (size_t)size, words);
    if (strcmp(words[1], "fork") == 0 && *words[2] && *words[3]) return fork_copy(forks, words);
    if (strcmp(words[1], "look") == 0 || strcmp(words[1], "signal") == 0)
        tell_of_copy(forks, words);
    else
        reply(forks, words[0], "failed", "the request is not known");
    return false;
}

char *ppx_forks_serve(ppx_session *session, int socket) {
    struct sigaction collected = {.sa_handler = SIG_DFL}, before;
    struct pollfd request = {.fd = socket, .events = POLLIN};
    server forks = {.socket = socket};
    pid_t original = getpid();
    char packet[PACKET + 1], *words[FIELDS], threads[16];
    sigemptyset(&collected.sa_mask);
    sigaction(SIGCHLD, &collected, &before); /* if ignored, nobody would learn how copies ended */
    snprintf(threads, sizeof threads, "%d", number_of_threads());
    reply(&forks, "0", "ready", threads);
    for (;;) {
        int ready = poll(&request, 1, SLICE);
        ppx_look_after_parent(session);
        if (ppx_should_stop(session)) end(&forks);
        for (size_t i = 0; i < forks.count; i++) look_at(&forks.copies[i]);
        if (ready <= 0 || !answer(&forks, packet, words)) continue;
        sigaction(SIGCHLD, &before, NULL);
        for (size_t i = 0; i < forks.count; i++) free(forks.copies[i].endpoint);
        free(forks.copies);
        return be_copy(&forks, session, original, words[2], words[3]);
    }
}

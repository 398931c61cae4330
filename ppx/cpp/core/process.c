#define _GNU_SOURCE

#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* When the process started; 0 if it is gone or only waits to be collected. */
static uint64_t start_time(long pid) {
    char path[64], text[1024], state, *at;
    unsigned long long started = 0;
    ssize_t size;
    int file;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    do size = read(file, text, sizeof text - 1);
    while (size < 0 && errno == EINTR);
    close(file);
    if (size <= 0) return 0;
    text[size] = 0;
    at = strrchr(text, ')'); /* the program's name before it may hold anything */
    if (!at || sscanf(at + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
                      &state, &started) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : started;
}

void ppx_process_watch_by_time(ppx_process *process, long pid) {
    process->pid = pid;
    process->descriptor = -1;
    process->start_time = start_time(pid);
}

void ppx_process_watch(ppx_process *process, long pid) {
#ifdef SYS_pidfd_open
    process->pid = pid;
    process->start_time = 0;
    process->descriptor = (int)syscall(SYS_pidfd_open, pid, 0);
    if (process->descriptor >= 0) return;
#endif
    ppx_process_watch_by_time(process, pid);
}

bool ppx_process_lives(const ppx_process *process) {
    struct pollfd end = {.fd = process->descriptor, .events = POLLIN};
    if (process->descriptor >= 0) return poll(&end, 1, 0) <= 0;
    return process->start_time && start_time(process->pid) == process->start_time;
}

void ppx_process_forget(ppx_process *process) {
    if (process->descriptor >= 0) close(process->descriptor);
    process->descriptor = -1;
    process->start_time = 0;
}

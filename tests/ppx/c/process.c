/* Watches a child that lives, dies, waits to be collected and is collected; prints nothing if all is as it should
 * be. */

#include "process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void require(bool condition, const char *what) {
    if (condition) return;
    printf("not so: %s\n", what);
    exit(1);
}

static void watch_a_child(void (*watch)(ppx_process *, long)) {
    ppx_process process;
    siginfo_t ended;
    pid_t child = fork();
    if (child == 0)
        for (;;) pause();
    watch(&process, child);
    require(ppx_process_lives(&process), "a process that waits lives");
    kill(child, SIGKILL);
    waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT);
    require(!ppx_process_lives(&process), "a process that was killed does not live, though nobody has collected it");
    waitpid(child, NULL, 0);
    require(!ppx_process_lives(&process), "nor when it was collected");
    ppx_process_forget(&process);
    watch(&process, child);
    require(!ppx_process_lives(&process), "a process that has gone before it was watched does not live");
    ppx_process_forget(&process);
}

int main(void) {
    watch_a_child(ppx_process_watch);
    watch_a_child(ppx_process_watch_by_time);
    return 0;
}

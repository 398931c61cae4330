/* Whether another process still lives, whatever becomes of its number. */

#ifndef PPX_PROCESS_H
#define PPX_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    long pid;
    int descriptor;      /* of the process; -1 where the kernel has none */
    uint64_t start_time; /* as the kernel counts it; 0 if the process was gone */
} ppx_process;

void ppx_process_watch(ppx_process *process, long pid);

/* The same where the kernel has no descriptors of processes: by the time at which the process started. */
void ppx_process_watch_by_time(ppx_process *process, long pid);

bool ppx_process_lives(const ppx_process *process);
void ppx_process_forget(ppx_process *process);

#endif

#define _GNU_SOURCE

#include "mailbox.h"

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const size_t HEADER = 4096;
static const size_t SMALLEST_CAPACITY = 65536;
static const uint32_t LONGEST_SPIN = 50000, SHORTEST_SPIN = 2000; /* nanoseconds */

/* Offsets in the header. */
enum { MAGIC = 0, NONCE = 8, CAPACITY = 16, FRONT_END_PID = 28, CROWDED = 32, TURN = 64 };
enum { INFERENCE = 128, FRONT_END = 192 }; /* the sides */
enum { SLEEPS = 0, LEFT = 4, LENGTH = 8 }; /* relative to a side */

static uint32_t *word(const ppx_mailbox *mailbox, size_t offset) {
    return (uint32_t *)(void *)(mailbox->memory + offset);
}

static uint32_t load(const ppx_mailbox *mailbox, size_t offset) {
    return __atomic_load_n(word(mailbox, offset), __ATOMIC_ACQUIRE);
}

static uint64_t load_long(const ppx_mailbox *mailbox, size_t offset) {
    uint64_t value;
    memcpy(&value, mailbox->memory + offset, sizeof value);
    return value;
}

static void pause_a_little(void) {
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

static uint64_t now(void) { /* nanoseconds */
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static bool several_cores(void) {
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) > 1;
}

/* -- opening -- */

static int open_file(const ppx_shared_memory *shared) {
    char path[64], target[16];
    snprintf(path, sizeof path, "/proc/%lu/fd/%lu", (unsigned long)shared->pid, (unsigned long)shared->fd);
    if (readlink(path, target, sizeof target) < 7 || memcmp(target, "/memfd:", 7) != 0)
        return -1; /* whatever it is, it is no mailbox: do not open it */
    return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

static bool is_sound(int file, const ppx_shared_memory *shared) {
    struct stat status;
    int seals = fcntl(file, F_GET_SEALS);
    return fstat(file, &status) == 0 && S_ISREG(status.st_mode) && (uint64_t)status.st_size == shared->size &&
           seals >= 0 && (seals & F_SEAL_SHRINK);
}

bool ppx_mailbox_attach(ppx_mailbox *mailbox, const ppx_shared_memory *shared) {
    uint64_t capacity = (shared->size - HEADER) / 2;
    void *memory = MAP_FAILED;
    int file;
    if (shared->size < HEADER || capacity < SMALLEST_CAPACITY || capacity % 4096 ||
        HEADER + 2 * capacity != shared->size || shared->size > SIZE_MAX / 2)
        return false;
    ppx_process_watch(&mailbox->peer, (long)shared->pid); /* first, so that the file opened is that of this process */
    file = open_file(shared);
    if (file >= 0) {
        if (is_sound(file, shared))
            memory = mmap(NULL, (size_t)shared->size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
    }
    mailbox->memory = memory == MAP_FAILED ? NULL : memory;
    mailbox->size = (size_t)shared->size;
    mailbox->capacity = (size_t)capacity;
    if (mailbox->memory && memcmp(mailbox->memory + MAGIC, "PPXMAIL1", 8) == 0 &&
        load_long(mailbox, NONCE) == shared->nonce && load_long(mailbox, CAPACITY) == capacity) {
        mailbox->spin = several_cores() ? LONGEST_SPIN : 0;
        __atomic_store_n(word(mailbox, FRONT_END_PID), (uint32_t)getpid(), __ATOMIC_RELEASE);
        return true;
    }
    if (mailbox->memory) munmap(mailbox->memory, mailbox->size);
    mailbox->memory = NULL;
    ppx_process_forget(&mailbox->peer);
    return false;
}

/* -- messages -- */

static long futex(const ppx_mailbox *mailbox, int operation, uint32_t value, const struct timespec *timeout) {
    return syscall(SYS_futex, word(mailbox, TURN), operation, value, timeout, NULL, 0);
}

static bool own_turn(const ppx_mailbox *mailbox) { return load(mailbox, TURN) & 1; }

/* Looks for a message for a while. The while grows where looking helps, or would have helped, and shrinks where the
 * other side takes longer: the core that it takes may be the one that the other side needs. */
static bool spin(ppx_mailbox *mailbox) {
    uint64_t end = 0;
    if (!mailbox->spin || load(mailbox, CROWDED)) return false;
    for (int round = 0;; round++) {
        for (int i = 0; i < 32; i++) {
            if (own_turn(mailbox)) {
                if (round && mailbox->spin < LONGEST_SPIN) mailbox->spin += mailbox->spin / 2;
                return true;
            }
            pause_a_little();
        }
        if (!end)
            end = now() + mailbox->spin;
        else if (now() >= end)
            break;
    }
    if (mailbox->spin > SHORTEST_SPIN) mailbox->spin -= mailbox->spin / 4;
    return false;
}

static void sleep_a_while(ppx_mailbox *mailbox) {
    static const struct timespec tenth = {.tv_nsec = 100000000};
    uint32_t turn;
    __atomic_store_n(word(mailbox, FRONT_END + SLEEPS), 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    turn = load(mailbox, TURN);
    if (!(turn & 1) && !load(mailbox, INFERENCE + LEFT)) futex(mailbox, FUTEX_WAIT, turn, &tenth);
    __atomic_store_n(word(mailbox, FRONT_END + SLEEPS), 0, __ATOMIC_SEQ_CST);
}

ppx_mail ppx_mailbox_receive(ppx_mailbox *mailbox, ppx_span *message) {
    if (!spin(mailbox)) {
        uint64_t begin = now();
        if (!own_turn(mailbox)) sleep_a_while(mailbox);
        if (!own_turn(mailbox))
            return load(mailbox, INFERENCE + LEFT) || !ppx_process_lives(&mailbox->peer) ? PPX_PEER_LOST : PPX_NO_MAIL;
        if (now() - begin < 2 * LONGEST_SPIN) /* being woken takes as long as the message did */
            mailbox->spin = 2 * mailbox->spin < LONGEST_SPIN ? 2 * mailbox->spin : mailbox->spin ? LONGEST_SPIN : 0;
    }
    message->size = (size_t)load_long(mailbox, INFERENCE + LENGTH);
    message->data = mailbox->memory + HEADER;
    return message->size <= mailbox->capacity ? PPX_MAIL : PPX_PEER_LOST;
}

void ppx_mailbox_send(ppx_mailbox *mailbox, const void *data, size_t size) {
    uint64_t length = size;
    memcpy(mailbox->memory + HEADER + mailbox->capacity, data, size);
    memcpy(mailbox->memory + FRONT_END + LENGTH, &length, sizeof length);
    __atomic_store_n(word(mailbox, TURN), load(mailbox, TURN) + 1, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (load(mailbox, INFERENCE + SLEEPS)) futex(mailbox, FUTEX_WAKE, 1, NULL);
}

void ppx_mailbox_leave(ppx_mailbox *mailbox) {
    if (!mailbox->memory) return;
    __atomic_store_n(word(mailbox, FRONT_END + LEFT), 1, __ATOMIC_SEQ_CST);
    futex(mailbox, FUTEX_WAKE, 1, NULL);
    munmap(mailbox->memory, mailbox->size);
    mailbox->memory = NULL;
    ppx_process_forget(&mailbox->peer);
}

#else /* no anonymous shared files: ZeroMQ goes on being used */

bool ppx_mailbox_attach(ppx_mailbox *mailbox, const ppx_shared_memory *shared) {
    (void)shared;
    mailbox->memory = NULL;
    return false;
}

ppx_mail ppx_mailbox_receive(ppx_mailbox *mailbox, ppx_span *message) {
    (void)mailbox, (void)message;
    return PPX_PEER_LOST;
}

void ppx_mailbox_send(ppx_mailbox *mailbox, const void *data, size_t size) { (void)mailbox, (void)data, (void)size; }

void ppx_mailbox_leave(ppx_mailbox *mailbox) { (void)mailbox; }

#endif

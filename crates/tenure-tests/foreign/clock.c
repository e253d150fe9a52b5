/* Offsets one clock of one process by the seconds in the file CLOCK_OFFSET: the wall clock, or the one whose number is
   CLOCK_ID. Other clocks do not change. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t offset(void) {
    int64_t seconds = 0;
    const char *path = getenv("CLOCK_OFFSET");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        if (read(fd, &seconds, sizeof seconds) != sizeof seconds)
            seconds = 0;
        close(fd);
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    const char *id = getenv("CLOCK_ID");
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == (id ? atoi(id) : CLOCK_REALTIME))
        now->tv_sec += offset();
    return result;
}

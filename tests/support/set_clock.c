/* The time of day that Python's own code is told: off by as many seconds as are written in the file $CLOCK_OFFSET.

   To be preloaded. Native libraries keep the true time: they wait until times of day, which the kernel knows nothing of
   if they are shifted here, and would wait for hours. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    char text[32] = {0};
    const char *path = getenv("CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    return atol(text);
}

static int asked_by_python(void *caller) {
    void *symbol = dlsym(RTLD_DEFAULT, "Py_Initialize");
    Dl_info python, asking;
    return symbol && dladdr(symbol, &python) && dladdr(caller, &asking) && python.dli_fbase == asking.dli_fbase;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME && asked_by_python(__builtin_return_address(0))) now->tv_sec += offset();
    return failed;
}

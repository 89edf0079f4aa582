/* OpenSMTPD calls listen(fd, 5). Linux drops what comes to a full backlog, and a client tries again a second later: a
 * burst of fifty connections would measure that. Loaded with LD_PRELOAD this makes the backlog 1024. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>

int listen(int fd, int backlog) {
    static int (*real)(int, int);
    if (!real) real = dlsym(RTLD_NEXT, "listen");
    (void)backlog;
    return real(fd, 1024);
}

/*
 * A shim between the MTA and the C library, for tests: lets calls fail to order, and keeps a journal of what is done
 * to the files of a folder. tests/support/shim.rs gives the orders, tests/support/journal.rs reads the journal.
 *
 * Never does anything when it is asked for nothing; and never lets the MTA see more than a call that fails, or that
 * writes less than it was asked to.
 *
 * SHIM_ORDERS   a file of orders, shared with the test, which changes it while the MTA runs
 * SHIM_JOURNAL  the file that the journal is appended to
 * SHIM_FOLDER   the folder whose files it is about
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Kinds of calls; the same as in shim.rs. */
enum {
    WRITE = 1, READ = 2, SYNC = 4, OPEN = 8, ACCEPT = 16, CONNECT = 32, THREAD = 64, RENAME = 128, UNLINK = 256,
    CUT = 512,
    /* No call: the process is killed where the journal says of everything whether it was done. */
    DIE = 1024,
};

/* No errno: the call writes half of what it should, or a single octet. */
#define SHORT (-1)
/* No errno: the call is made as it should, and does not come back before its order is called off. Of send and syncs. */
#define HELD (-2)

/* An order, 128 octets. It counts while `armed`. */
struct order {
    uint32_t armed;
    uint32_t calls;
    int32_t error;
    uint32_t unused;
    int64_t skip;    /* so many calls go well before */
    int64_t left;    /* so many fail then */
    uint64_t struck; /* so many have failed */
    char word[88];   /* stands in the path, or in what a descriptor is called in /proc: "socket:[7]"; empty fits all, "$" is the end of it */
};
#define ORDERS 8

static struct order *orders;
static int journal = -1;
static char folder[PATH_MAX];
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int64_t syncs;

/* The function of the C library that stands behind ours. */
static void *behind(const char *name, void **known)
{
    void *found = __atomic_load_n(known, __ATOMIC_RELAXED);
    if (!found) {
        found = dlsym(RTLD_NEXT, name);
        if (!found)
            abort();
        __atomic_store_n(known, found, __ATOMIC_RELAXED);
    }
    return found;
}
#define BEHIND(name) static void *known_##name; __typeof__(name) *real = behind(#name, &known_##name)

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SHIM_ORDERS");
    if (path) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
        void *map = mmap(NULL, ORDERS * sizeof(struct order), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
            abort();
        syscall(SYS_close, fd);
        orders = map;
    }
    path = getenv("SHIM_JOURNAL");
    const char *of = getenv("SHIM_FOLDER");
    if (path && of && strlen(of) < sizeof folder) {
        journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (journal < 0)
            abort();
        strcpy(folder, of);
    }
}

/* What a descriptor is of; empty where that can not be told. */
static void name_of(int fd, char name[PATH_MAX])
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, PATH_MAX - 1);
    name[length > 0 ? length : 0] = 0;
}

/* Whether the word stands in the path; at its end, if the word ends in a dollar sign. */
static int fits(const char *path, const char *word)
{
    size_t whole = strlen(path), length = strlen(word);
    if (!length || word[length - 1] != '$')
        return strstr(path, word) != NULL;
    return whole >= length - 1 && !strncmp(path + whole - (length - 1), word, length - 1);
}

/* The errno with which this call has to fail, SHORT or HELD; 0 if it may go on. */
static int struck(uint32_t call, int fd, const char *path)
{
    if (!orders)
        return 0;
    int saved = errno;
    char name[PATH_MAX];
    for (struct order *order = orders; order < orders + ORDERS; order++) {
        if (!__atomic_load_n(&order->armed, __ATOMIC_ACQUIRE) || !(order->calls & call))
            continue;
        if (order->word[0]) {
            if (!path) {
                name_of(fd, name);
                path = name;
            }
            if (!fits(path, order->word))
                continue;
        }
        if (__atomic_fetch_sub(&order->skip, 1, __ATOMIC_SEQ_CST) > 0
            || __atomic_fetch_sub(&order->left, 1, __ATOMIC_SEQ_CST) <= 0)
            continue;
        __atomic_fetch_add(&order->struck, 1, __ATOMIC_SEQ_CST);
        errno = saved;
        return order->error;
    }
    errno = saved;
    return 0;
}

/* Waits until what is HELD may go on. */
static void be_held(void)
{
    int saved = errno, held = 1;
    while (held) {
        held = 0;
        for (struct order *order = orders; order < orders + ORDERS; order++)
            held |= __atomic_load_n(&order->armed, __ATOMIC_ACQUIRE) && order->error == HELD;
        usleep(1000);
    }
    errno = saved;
}

static int refuse(int error)
{
    errno = error;
    return -1;
}

static size_t shortened(size_t length)
{
    return length > 1 ? length / 2 : length;
}

/* ---- The journal ---- */

enum { WROTE = 1, CUT_TO, SYNC_BEGINS, SYNC_ENDS, SYNC_FAILS, MADE_FILE, MADE_FOLDER, MOVED, REMOVED, LINKED };

/* The head of an entry; two paths and the octets that were written follow. */
struct entry {
    uint32_t kind, path, other, octets;
    uint64_t file; /* its inode */
    int64_t at;    /* offset, length, or the number of a sync */
};

/* Under `turn`. */
static void note(uint32_t kind, uint64_t file, int64_t at, const char *path, const char *other, const void *octets,
                 size_t length)
{
    struct entry entry = {
        .kind = kind, .path = strlen(path), .other = strlen(other), .octets = length, .file = file, .at = at,
    };
    struct iovec pieces[] = {
        {&entry, sizeof entry}, {(char *)path, entry.path}, {(char *)other, entry.other}, {(void *)octets, length},
    };
    ssize_t whole = sizeof entry + entry.path + entry.other + length;
    int saved = errno;
    if (syscall(SYS_writev, journal, pieces, 4) != whole)
        abort();
    errno = saved;
}

/* Whether the journal is about this path. What SQLite's processes share in memory is never needed after a crash. */
static int is_watched(const char *path)
{
    size_t length = strlen(folder), whole = strlen(path);
    return journal >= 0 && !strncmp(path, folder, length) && (path[length] == '/' || !path[length])
        && !(whole > 4 && !strcmp(path + whole - 4, "-shm"));
}

/* The same of a descriptor; gives its file and path. */
static int is_watched_file(int fd, uint64_t *file, char path[PATH_MAX])
{
    if (journal < 0)
        return 0;
    int saved = errno;
    struct stat status;
    name_of(fd, path);
    int watched = is_watched(path) && !fstat(fd, &status);
    if (watched)
        *file = status.st_ino;
    errno = saved;
    return watched;
}

static void begin_turn(void) { pthread_mutex_lock(&turn); }
static void end_turn(void)
{
    for (struct order *order = orders; orders && order < orders + ORDERS; order++)
        if (__atomic_load_n(&order->armed, __ATOMIC_ACQUIRE) && order->calls & DIE)
            kill(getpid(), SIGKILL);
    pthread_mutex_unlock(&turn);
}

/* ---- Writing ---- */

static ssize_t wrote(int fd, uint64_t file, int64_t at, const void *octets, ssize_t length)
{
    if (length > 0) {
        int saved = errno;
        note(WROTE, file, at >= 0 ? at : lseek(fd, 0, SEEK_CUR) - length, "", "", octets, length);
        errno = saved;
    }
    end_turn();
    return length;
}

ssize_t write(int fd, const void *octets, size_t length)
{
    BEHIND(write);
    uint64_t file;
    char path[PATH_MAX];
    int error = struck(WRITE, fd, NULL);
    if (error > 0)
        return refuse(error);
    if (error == SHORT)
        length = shortened(length);
    if (!is_watched_file(fd, &file, path))
        return real(fd, octets, length);
    begin_turn();
    return wrote(fd, file, -1, octets, real(fd, octets, length));
}

ssize_t pwrite64(int fd, const void *octets, size_t length, off64_t at)
{
    BEHIND(pwrite64);
    uint64_t file;
    char path[PATH_MAX];
    int error = struck(WRITE, fd, NULL);
    if (error > 0)
        return refuse(error);
    if (error == SHORT)
        length = shortened(length);
    if (!is_watched_file(fd, &file, path))
        return real(fd, octets, length, at);
    begin_turn();
    return wrote(fd, file, at, octets, real(fd, octets, length, at));
}

ssize_t pwrite(int fd, const void *octets, size_t length, off_t at)
{
    return pwrite64(fd, octets, length, at);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    BEHIND(writev);
    uint64_t file;
    char path[PATH_MAX];
    int first = 0;
    while (first < count && !pieces[first].iov_len)
        first++;
    /* To a file, and where less is to be written: the first piece alone, which is a short write. */
    if (first < count && is_watched_file(fd, &file, path))
        return write(fd, pieces[first].iov_base, pieces[first].iov_len);
    int error = struck(WRITE, fd, NULL);
    if (error > 0)
        return refuse(error);
    if (error == SHORT && first < count) {
        struct iovec piece = {pieces[first].iov_base, shortened(pieces[first].iov_len)};
        return real(fd, &piece, 1);
    }
    return real(fd, pieces, count);
}

ssize_t send(int fd, const void *octets, size_t length, int flags)
{
    BEHIND(send);
    int error = struck(WRITE, fd, NULL);
    if (error > 0)
        return refuse(error);
    ssize_t sent = real(fd, octets, error == SHORT ? shortened(length) : length, flags);
    if (error == HELD)
        be_held();
    return sent;
}

ssize_t sendto(int fd, const void *octets, size_t length, int flags, const struct sockaddr *to, socklen_t size)
{
    BEHIND(sendto);
    int error = struck(WRITE, fd, NULL);
    if (error > 0)
        return refuse(error);
    return real(fd, octets, length, flags, to, size);
}

static int cut(int fd, off64_t length, int (*real)(int, off64_t))
{
    uint64_t file;
    char path[PATH_MAX];
    int error = struck(CUT, fd, NULL);
    if (error > 0)
        return refuse(error);
    if (!is_watched_file(fd, &file, path))
        return real(fd, length);
    begin_turn();
    int result = real(fd, length);
    if (!result)
        note(CUT_TO, file, length, "", "", NULL, 0);
    end_turn();
    return result;
}

int ftruncate64(int fd, off64_t length)
{
    BEHIND(ftruncate64);
    return cut(fd, length, real);
}

int ftruncate(int fd, off_t length)
{
    BEHIND(ftruncate64);
    return cut(fd, length, real);
}

/* ---- Reading ---- */

ssize_t read(int fd, void *octets, size_t length)
{
    BEHIND(read);
    int error = struck(READ, fd, NULL);
    if (error > 0)
        return refuse(error);
    return real(fd, octets, error == SHORT ? shortened(length) : length);
}

ssize_t pread64(int fd, void *octets, size_t length, off64_t at)
{
    BEHIND(pread64);
    int error = struck(READ, fd, NULL);
    if (error > 0)
        return refuse(error);
    return real(fd, octets, error == SHORT ? shortened(length) : length, at);
}

ssize_t recv(int fd, void *octets, size_t length, int flags)
{
    BEHIND(recv);
    int error = struck(READ, fd, NULL);
    if (error > 0)
        return refuse(error);
    return real(fd, octets, error == SHORT ? shortened(length) : length, flags);
}

/* ---- Syncs ---- */

/* What a sync could not write the system tells once by each descriptor of the file. Where it is written down what gets to
   the disk we do that, too, for the database and its log: their descriptors are few, and open for as long as the process
   lives. */
#define TROUBLED 8
#define HEARERS 1024
static struct trouble {
    uint64_t file;
    uint32_t times;
} troubled[TROUBLED], heard[HEARERS];

/* Whether this descriptor has to be told of a sync that failed before, by another one; `fails` says whether this one does
   by itself. Under `turn`, in which it begins: what was to get to the disk by one that fails does not get there by one
   that begins later, and that has to know. */
static int has_to_hear(int fd, uint64_t file, const char *path, int fails)
{
    if ((!fits(path, "queue.db$") && !fits(path, "queue.db-wal$")) || fd >= HEARERS)
        return 0;
    struct trouble *of = troubled;
    while (of < troubled + TROUBLED - 1 && of->file && of->file != file)
        of++;
    of->file = file;
    if (heard[fd].file != file)
        heard[fd] = (struct trouble){.file = file};
    int has_to = heard[fd].times < of->times;
    of->times += fails;
    heard[fd].times = of->times;
    return has_to;
}

static int sync_by(int fd, int (*real)(int))
{
    uint64_t file;
    char path[PATH_MAX];
    int error = struck(SYNC, fd, NULL), watched = is_watched_file(fd, &file, path);
    int64_t number = 0;
    if (watched) {
        begin_turn();
        struct stat status;
        if (has_to_hear(fd, file, path, error > 0) && !error) {
            /* It does what it can; nothing is sure of that. */
            end_turn();
            return refuse(EIO);
        }
        number = ++syncs;
        note(SYNC_BEGINS, file, number, path, !fstat(fd, &status) && S_ISDIR(status.st_mode) ? "/" : "", NULL, 0);
        end_turn();
    }
    if (error == HELD)
        be_held();
    int result = error > 0 ? refuse(error) : real(fd);
    if (watched) {
        begin_turn();
        note(result ? SYNC_FAILS : SYNC_ENDS, file, number, "", "", NULL, 0);
        end_turn();
    }
    return result;
}

int fsync(int fd)
{
    BEHIND(fsync);
    return sync_by(fd, real);
}

int fdatasync(int fd)
{
    BEHIND(fdatasync);
    return sync_by(fd, real);
}

/* ---- Names ---- */

static int open_by(const char *path, int flags, mode_t mode, int (*real)(const char *, int, ...))
{
    int error = struck(OPEN, -1, path);
    if (error > 0)
        return refuse(error);
    if (!(flags & (O_CREAT | O_TRUNC)) || !is_watched(path))
        return real(path, flags, mode);
    begin_turn();
    int saved = errno, is_new = access(path, F_OK) != 0;
    errno = saved;
    int fd = real(path, flags, mode);
    struct stat status;
    if (fd >= 0 && !fstat(fd, &status)) {
        if (is_new)
            note(MADE_FILE, status.st_ino, 0, path, "", NULL, 0);
        else if (flags & O_TRUNC)
            note(CUT_TO, status.st_ino, 0, "", "", NULL, 0);
    }
    end_turn();
    return fd;
}

#define MODE(flags, mode)             \
    mode_t mode = 0;                  \
    if ((flags) & (O_CREAT)) {        \
        va_list rest;                 \
        va_start(rest, flags);        \
        mode = va_arg(rest, mode_t);  \
        va_end(rest);                 \
    }

int open64(const char *path, int flags, ...)
{
    BEHIND(open64);
    MODE(flags, mode)
    return open_by(path, flags, mode, real);
}

int open(const char *path, int flags, ...)
{
    BEHIND(open64);
    MODE(flags, mode)
    return open_by(path, flags, mode, real);
}

int rename(const char *from, const char *to)
{
    BEHIND(rename);
    int error = struck(RENAME, -1, to);
    if (error > 0)
        return refuse(error);
    if (!is_watched(to))
        return real(from, to);
    begin_turn();
    int result = real(from, to);
    if (!result)
        note(MOVED, 0, 0, from, to, NULL, 0);
    end_turn();
    return result;
}

int link(const char *from, const char *to)
{
    BEHIND(link);
    int error = struck(RENAME, -1, to);
    if (error > 0)
        return refuse(error);
    if (!is_watched(to))
        return real(from, to);
    begin_turn();
    int result = real(from, to);
    if (!result)
        note(LINKED, 0, 0, from, to, NULL, 0);
    end_turn();
    return result;
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    BEHIND(linkat);
    int error = struck(RENAME, -1, to);
    if (error > 0)
        return refuse(error);
    if (!is_watched(to))
        return real(from_folder, from, to_folder, to, flags);
    begin_turn();
    int result = real(from_folder, from, to_folder, to, flags);
    if (!result)
        note(LINKED, 0, 0, from, to, NULL, 0);
    end_turn();
    return result;
}

static int remove_by(const char *path, int (*real)(const char *))
{
    int error = struck(UNLINK, -1, path);
    if (error > 0)
        return refuse(error);
    if (!is_watched(path))
        return real(path);
    begin_turn();
    int result = real(path);
    if (!result)
        note(REMOVED, 0, 0, path, "", NULL, 0);
    end_turn();
    return result;
}

int unlink(const char *path)
{
    BEHIND(unlink);
    return remove_by(path, real);
}

int rmdir(const char *path)
{
    BEHIND(rmdir);
    return remove_by(path, real);
}

int mkdir(const char *path, mode_t mode)
{
    BEHIND(mkdir);
    int error = struck(OPEN, -1, path);
    if (error > 0)
        return refuse(error);
    if (!is_watched(path))
        return real(path, mode);
    begin_turn();
    int result = real(path, mode);
    if (!result)
        note(MADE_FOLDER, 0, 0, path, "", NULL, 0);
    end_turn();
    return result;
}

/* ---- Connections and threads ---- */

int accept4(int fd, struct sockaddr *from, socklen_t *size, int flags)
{
    BEHIND(accept4);
    int error = struck(ACCEPT, fd, NULL);
    return error > 0 ? refuse(error) : real(fd, from, size, flags);
}

int connect(int fd, const struct sockaddr *to, socklen_t size)
{
    BEHIND(connect);
    int error = struck(CONNECT, fd, "connect");
    return error > 0 ? refuse(error) : real(fd, to, size);
}

int socket(int domain, int type, int protocol)
{
    BEHIND(socket);
    int error = struck(CONNECT, -1, "socket");
    return error > 0 ? refuse(error) : real(domain, type, protocol);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *), void *with)
{
    BEHIND(pthread_create);
    int error = struck(THREAD, -1, "thread");
    return error > 0 ? error : real(thread, attributes, work, with);
}

// Counts what a process asks of the system below one folder, and makes one of these calls go wrong.
// Loaded with LD_PRELOAD; `faults_arm` says which call, and how. Reads and writes of other files pass.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum group { READ, WRITE, OPEN, SYNC, NAME, REMOVE, MAKE, SIZE, MODE, GROUPS };
enum action { COUNT, FAIL, FAIL_FROM_HERE, SHORT, KILL_BEFORE, KILL_HALFWAY, KILL_AFTER };

static char root[PATH_MAX];
static size_t root_size;
static unsigned mask;    // groups that count
static int action, error;
static long target;      // the call that goes wrong, from 1 on
static int no_unnamed;   // the file system knows no O_TMPFILE
static int no_exchange;  // nor does it exchange two names

// Calls so far, of each group and of those that count, shared with the process that asks.
static struct { _Atomic long of[GROUPS], all; } *seen;

__attribute__((constructor)) static void start(void) {
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

void faults_arm(const char *folder, unsigned groups, int how, int number, long call, int plain) {
    snprintf(root, sizeof root, "%s", folder);
    root_size = strlen(root);
    action = how, error = number, target = call, no_unnamed = no_exchange = plain;
    memset(seen, 0, sizeof *seen);
    mask = groups;
}

long faults_seen(int group) { return seen->of[group]; }

static int below(const char *path) {
    return !strncmp(path, root, root_size) && (path[root_size] == '/' || !path[root_size]);
}

static int is_below(int descriptor) {
    char link[32], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below(path);
}

static int names(int folder, const char *path) {
    char here[PATH_MAX];
    if (path[0] == '/') return below(path);
    if (folder != AT_FDCWD) return is_below(folder);
    return getcwd(here, sizeof here) && below(here);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

// What becomes of a call: PASS, or one of the actions.
enum { PASS = -1 };
static int fate(enum group group, int concerned) {
    if (!(mask >> group & 1) || !concerned) return PASS;
    ++seen->of[group];
    long number = ++seen->all;
    if (action == FAIL_FROM_HERE && number >= target) return FAIL;
    if (number != target || action == COUNT) return PASS;
    if (action == KILL_BEFORE) die();
    return action;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// A call whose result is a number: `whole` makes it, `part` makes half of it.
#define MADE(group, concerned, whole, part)                        \
    int end = fate(group, concerned);                              \
    if (end == FAIL) { errno = error; return -1; }                 \
    if (end == SHORT) return part;                                 \
    if (end == KILL_HALFWAY) { (void)!(part); die(); }             \
    __typeof__(whole) result = whole;                              \
    if (end == KILL_AFTER) die();                                  \
    return result

#define HALF(size) ((size) > 1 ? (size) / 2 : (size))

ssize_t write(int fd, const void *data, size_t size) {
    MADE(WRITE, is_below(fd), REAL(write)(fd, data, size), REAL(write)(fd, data, HALF(size)));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    MADE(WRITE, is_below(fd), REAL(pwrite)(fd, data, size, at), REAL(pwrite)(fd, data, HALF(size), at));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    MADE(WRITE, is_below(fd), REAL(pwrite)(fd, data, size, at), REAL(pwrite)(fd, data, HALF(size), at));
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    MADE(WRITE, is_below(out), REAL(copy_file_range)(in, from, out, to, size, flags),
         REAL(copy_file_range)(in, from, out, to, HALF(size), flags));
}
ssize_t read(int fd, void *data, size_t size) {
    MADE(READ, is_below(fd), REAL(read)(fd, data, size), REAL(read)(fd, data, HALF(size)));
}
ssize_t pread(int fd, void *data, size_t size, off_t at) {
    MADE(READ, is_below(fd), REAL(pread)(fd, data, size, at), REAL(pread)(fd, data, HALF(size), at));
}
ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    MADE(READ, is_below(fd), REAL(pread)(fd, data, size, at), REAL(pread)(fd, data, HALF(size), at));
}

#define WHOLE(group, concerned, call) MADE(group, concerned, call, call)

static int open_with(int folder, const char *path, int flags, mode_t mode) {
    int concerned = names(folder, path);
    if (no_unnamed && concerned && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    WHOLE(OPEN, concerned, (int)syscall(SYS_openat, folder, path, flags, mode));
}
#define OPENS(name, parameters, folder)                                  \
    int name parameters {                                                \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; \
        va_end(rest);                                                    \
        return open_with(folder, path, flags, mode);                     \
    }
OPENS(open, (const char *path, int flags, ...), AT_FDCWD)
OPENS(open64, (const char *path, int flags, ...), AT_FDCWD)
OPENS(openat, (int folder, const char *path, int flags, ...), folder)
OPENS(openat64, (int folder, const char *path, int flags, ...), folder)

int fsync(int fd) { WHOLE(SYNC, is_below(fd), REAL(fsync)(fd)); }
int fdatasync(int fd) { WHOLE(SYNC, is_below(fd), REAL(fdatasync)(fd)); }

int rename(const char *from, const char *to) {
    WHOLE(NAME, names(AT_FDCWD, to), REAL(rename)(from, to));
}
int renameat(int a, const char *from, int b, const char *to) {
    WHOLE(NAME, names(b, to), REAL(renameat)(a, from, b, to));
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    if (no_exchange && flags) {
        errno = EINVAL;
        return -1;
    }
    WHOLE(NAME, names(b, to), REAL(renameat2)(a, from, b, to, flags));
}
int link(const char *from, const char *to) { WHOLE(NAME, names(AT_FDCWD, to), REAL(link)(from, to)); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    WHOLE(NAME, names(b, to), REAL(linkat)(a, from, b, to, flags));
}

int unlink(const char *path) { WHOLE(REMOVE, names(AT_FDCWD, path), REAL(unlink)(path)); }
int rmdir(const char *path) { WHOLE(REMOVE, names(AT_FDCWD, path), REAL(rmdir)(path)); }
int unlinkat(int folder, const char *path, int flags) {
    WHOLE(REMOVE, names(folder, path), REAL(unlinkat)(folder, path, flags));
}

int mkdir(const char *path, mode_t mode) { WHOLE(MAKE, names(AT_FDCWD, path), REAL(mkdir)(path, mode)); }
int mkdirat(int folder, const char *path, mode_t mode) {
    WHOLE(MAKE, names(folder, path), REAL(mkdirat)(folder, path, mode));
}

int ftruncate(int fd, off_t size) { WHOLE(SIZE, is_below(fd), REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size) { WHOLE(SIZE, is_below(fd), REAL(ftruncate)(fd, size)); }
// These two return the error's number instead of setting `errno`.
int posix_fallocate(int fd, off_t at, off_t size) {
    int end = fate(SIZE, is_below(fd));
    if (end == FAIL) return error;
    int result = REAL(posix_fallocate)(fd, at, size);
    if (end == KILL_AFTER || end == KILL_HALFWAY) die();
    return result;
}
int posix_fallocate64(int fd, off64_t at, off64_t size) { return posix_fallocate(fd, at, size); }

int chmod(const char *path, mode_t mode) { WHOLE(MODE, names(AT_FDCWD, path), REAL(chmod)(path, mode)); }
int fchmod(int fd, mode_t mode) { WHOLE(MODE, is_below(fd), REAL(fchmod)(fd, mode)); }
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    WHOLE(MODE, names(folder, path), REAL(fchmodat)(folder, path, mode, flags));
}

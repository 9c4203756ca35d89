/* Counts the file-system calls of a process below one folder, and kills the process or fails a call at the n-th.
 *
 * Loaded by LD_PRELOAD; idle until fault_arm(). Each counted call is one line of the log: number, operation, path and,
 * for a rename or a link, the new path, separated by tabs; a fault adds a line "fault". Calls through mmap() and those
 * that glibc makes itself for FILE streams are not seen.
 */
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
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING, KILL, TORN, FAIL_ONCE, FAIL_FOR_EVER, PAUSE };
/* Classes of calls: those that need space, those that change the tree otherwise, those that read, and locks. */
enum { SPACE = 1, TREE = 2, READ = 4, LOCK = 8, HARD_LINK = 16 };

static char folder[PATH_MAX];
static size_t folder_length;
static atomic_long calls;
static long fault_at;
static int action, fault_errno, counted, failing, log_fd = -1;

/* Arm the faults for calls below `below`. Classes in `count` are counted, and only those in `fail` fail for ever. */
void fault_arm(const char *below, const char *log, int what, long at, int number, int count, int fail) {
    snprintf(folder, sizeof folder, "%s", below);
    folder_length = strlen(folder);
    action = what, fault_at = at, fault_errno = number, counted = count, failing = fail;
    atomic_store(&calls, 0);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd >= 0) {  /* away from the numbers that the process uses */
        int high = (int)syscall(SYS_fcntl, log_fd, F_DUPFD_CLOEXEC, 900);
        syscall(SYS_close, log_fd);
        log_fd = high;
    }
}

static void note(const char *line, int length) {
    if (length > 0) syscall(SYS_write, log_fd, line, (size_t)length);
}

static int below(const char *path) {
    return strncmp(path, folder, folder_length) == 0 && (path[folder_length] == '/' || path[folder_length] == 0);
}

static void of_descriptor(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static void absolute(int directory, const char *name, char *path) {
    if (name == NULL) { path[0] = 0; return; }
    if (name[0] == '/') { snprintf(path, PATH_MAX, "%s", name); return; }
    char start[PATH_MAX];
    if (directory == AT_FDCWD) {
        if (syscall(SYS_getcwd, start, sizeof start) < 0) start[0] = 0;
    } else of_descriptor(directory, start);
    if (snprintf(path, PATH_MAX, "%s/%s", start, name) >= PATH_MAX) path[0] = 0;
}

/* Copy a path with a question mark for each control character: names may hold the log's own separators. */
static void printable(const char *path, char *copy) {
    size_t k = 0;
    for (; path[k] && k < PATH_MAX - 1; k++) copy[k] = (unsigned char)path[k] < 32 ? '?' : path[k];
    copy[k] = 0;
}

/* Count a call and return 0 to make it, 1 to fail it with errno set, 2 to make half of it and die. */
static int decide(int class, const char *operation, const char *path, const char *second) {
    if (log_fd < 0 || !(class & counted) || !(below(path) || (second && below(second)))) return 0;
    long number = atomic_fetch_add(&calls, 1) + 1;
    int saved = errno;
    char line[2 * PATH_MAX + 200];
    char one[PATH_MAX], two[PATH_MAX];
    printable(path, one), printable(second ? second : "", two);
    note(line, snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\n", number, operation, one, two));
    int here = action != NOTHING &&
        (number == fault_at || (action == FAIL_FOR_EVER && number > fault_at && (class & failing)));
    errno = saved;
    if (!here) return 0;
    note("fault\n", 6);
    if (action == KILL) syscall(SYS_kill, getpid(), SIGKILL);
    if (action == PAUSE) {  /* until SIGCONT, and then as if nothing had been */
        syscall(SYS_kill, getpid(), SIGSTOP);
        errno = saved;
        return 0;
    }
    if (action == TORN) return 2;
    errno = fault_errno;
    return 1;
}

static int decide_fd(int class, const char *operation, int fd) {
    if (log_fd < 0 || !(class & counted)) return 0;
    int saved = errno;
    char path[PATH_MAX];
    of_descriptor(fd, path);
    errno = saved;
    return decide(class, operation, path, NULL);
}

static int decide_at(int class, const char *operation, int directory, const char *name) {
    if (log_fd < 0 || !(class & counted)) return 0;
    int saved = errno;
    char path[PATH_MAX];
    absolute(directory, name, path);
    errno = saved;
    return decide(class, operation, path, NULL);
}

static int decide_two(int class, const char *operation, int a, const char *first, int b, const char *second) {
    if (log_fd < 0 || !(class & counted)) return 0;
    int saved = errno;
    char one[PATH_MAX], two[PATH_MAX];
    absolute(a, first, one), absolute(b, second, two);
    errno = saved;
    return decide(class, operation, one, two);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int class_of_open(int flags) {
    if ((flags & O_ACCMODE) == O_RDONLY && !(flags & (O_CREAT | O_TRUNC))) return READ;
    return SPACE;
}

#define OPEN(name, symbol) \
    int name(const char *path, int flags, ...) { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); } \
        REAL(int, symbol, const char *, int, ...); \
        int class = class_of_open(flags); \
        if (decide_at(class, class == READ ? "open-read" : "open", AT_FDCWD, path)) return -1; \
        return real(path, flags, mode); \
    }
OPEN(open, "open")
OPEN(open64, "open64")

#define OPENAT(name, symbol) \
    int name(int directory, const char *path, int flags, ...) { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); } \
        REAL(int, symbol, int, const char *, int, ...); \
        int class = class_of_open(flags); \
        if (decide_at(class, class == READ ? "open-read" : "open", directory, path)) return -1; \
        return real(directory, path, flags, mode); \
    }
OPENAT(openat, "openat")
OPENAT(openat64, "openat64")

int creat(const char *path, mode_t mode) {
    REAL(int, "creat", const char *, mode_t);
    return decide_at(SPACE, "open", AT_FDCWD, path) ? -1 : real(path, mode);
}

#define FOPEN(name, symbol) \
    FILE *name(const char *path, const char *mode) { \
        REAL(FILE *, symbol, const char *, const char *); \
        int reads = mode[0] == 'r' && !strchr(mode, '+'); \
        if (decide_at(reads ? READ : SPACE, reads ? "open-read" : "open", AT_FDCWD, path)) return NULL; \
        return real(path, mode); \
    }
FOPEN(fopen, "fopen")
FOPEN(fopen64, "fopen64")

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    int decided = decide_fd(SPACE, "write", fd);
    if (decided == 2) { real(fd, data, size / 2); syscall(SYS_kill, getpid(), SIGKILL); }
    return decided ? -1 : real(fd, data, size);
}

#define PWRITE(name, symbol, offset_type) \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset) { \
        REAL(ssize_t, symbol, int, const void *, size_t, offset_type); \
        int decided = decide_fd(SPACE, "write", fd); \
        if (decided == 2) { real(fd, data, size / 2, offset); syscall(SYS_kill, getpid(), SIGKILL); } \
        return decided ? -1 : real(fd, data, size, offset); \
    }
PWRITE(pwrite, "pwrite", off_t)
PWRITE(pwrite64, "pwrite64", off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    int decided = decide_fd(SPACE, "write", fd);
    if (decided == 2) { real(fd, parts, 1); syscall(SYS_kill, getpid(), SIGKILL); }
    return decided ? -1 : real(fd, parts, count);
}

ssize_t read(int fd, void *data, size_t size) {
    REAL(ssize_t, "read", int, void *, size_t);
    return decide_fd(READ, "read", fd) ? -1 : real(fd, data, size);
}

#define PREAD(name, symbol, offset_type) \
    ssize_t name(int fd, void *data, size_t size, offset_type offset) { \
        REAL(ssize_t, symbol, int, void *, size_t, offset_type); \
        return decide_fd(READ, "read", fd) ? -1 : real(fd, data, size, offset); \
    }
PREAD(pread, "pread", off_t)
PREAD(pread64, "pread64", off64_t)

ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
    REAL(ssize_t, "sendfile", int, int, off_t *, size_t);
    return decide_fd(SPACE, "write", to) ? -1 : real(to, from, offset, size);
}

ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *offset, size_t size, unsigned flags) {
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    return decide_fd(SPACE, "write", to) ? -1 : real(from, start, to, offset, size, flags);
}

#define SYNC(name, symbol) \
    int name(int fd) { \
        REAL(int, symbol, int); \
        return decide_fd(SPACE, "fsync", fd) ? -1 : real(fd); \
    }
SYNC(fsync, "fsync")
SYNC(fdatasync, "fdatasync")

#define FTRUNCATE(name, symbol, offset_type) \
    int name(int fd, offset_type size) { \
        REAL(int, symbol, int, offset_type); \
        return decide_fd(SPACE, "ftruncate", fd) ? -1 : real(fd, size); \
    }
FTRUNCATE(ftruncate, "ftruncate", off_t)
FTRUNCATE(ftruncate64, "ftruncate64", off64_t)

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    return decide_at(SPACE, "mkdir", AT_FDCWD, path) ? -1 : real(path, mode);
}
int mkdirat(int directory, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    return decide_at(SPACE, "mkdir", directory, path) ? -1 : real(directory, path, mode);
}
int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return decide_two(SPACE, "rename", AT_FDCWD, from, AT_FDCWD, to) ? -1 : real(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    return decide_two(SPACE, "rename", a, from, b, to) ? -1 : real(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    return decide_two(SPACE, "rename", a, from, b, to) ? -1 : real(a, from, b, to, flags);
}
int link(const char *from, const char *to) {
    REAL(int, "link", const char *, const char *);
    return decide_two(SPACE | HARD_LINK, "link", AT_FDCWD, from, AT_FDCWD, to) ? -1 : real(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    return decide_two(SPACE | HARD_LINK, "link", a, from, b, to) ? -1 : real(a, from, b, to, flags);
}
int symlink(const char *content, const char *path) {
    REAL(int, "symlink", const char *, const char *);
    return decide_at(SPACE, "symlink", AT_FDCWD, path) ? -1 : real(content, path);
}
int symlinkat(const char *content, int directory, const char *path) {
    REAL(int, "symlinkat", const char *, int, const char *);
    return decide_at(SPACE, "symlink", directory, path) ? -1 : real(content, directory, path);
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return decide_at(TREE, "unlink", AT_FDCWD, path) ? -1 : real(path);
}
int unlinkat(int directory, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    return decide_at(TREE, flags & AT_REMOVEDIR ? "rmdir" : "unlink", directory, path) ? -1 : real(directory, path, flags);
}
int remove(const char *path) {
    REAL(int, "remove", const char *);
    return decide_at(TREE, "unlink", AT_FDCWD, path) ? -1 : real(path);
}
int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    return decide_at(TREE, "rmdir", AT_FDCWD, path) ? -1 : real(path);
}
int flock(int fd, int operation) {
    REAL(int, "flock", int, int);
    return decide_fd(LOCK, "flock", fd) ? -1 : real(fd, operation);
}

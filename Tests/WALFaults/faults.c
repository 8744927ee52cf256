#define _GNU_SOURCE
#include "walfaults.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* linux/fs.h does not have it in all versions. The argument says that not even the journal is written. */
#define SHUTDOWN _IOR('X', 125, uint32_t)
static const uint32_t without_journal = 2;

enum action { NOTHING, KILL, POWER, SHORT, FAIL };

static const char *root;
static size_t root_length;
static const char *only_call, *only_place;
static int trace = -1;
static long at, times = 1;
static enum action action;
static int error;
static int lies;
static atomic_long passed;
/* Of this thread: the calls of this library itself do not count. */
static __thread int inside;

static const struct {
    const char *name;
    int code;
} errors[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EINTR", EINTR},
              {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM}, {"EACCES", EACCES}, {"EROFS", EROFS}};

__attribute__((constructor)) static void begin(void) {
    root = getenv("WALFAULTS_ROOT");
    if (!root)
        return;
    root_length = strlen(root);
    lies = getenv("WALFAULTS_LIE") != NULL;
    const char *text = getenv("WALFAULTS_TRACE");
    if (text)
        trace = (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    only_call = getenv("WALFAULTS_CALL");
    only_place = getenv("WALFAULTS_PLACE");
    if ((text = getenv("WALFAULTS_AT")))
        at = strtol(text, NULL, 10);
    if ((text = getenv("WALFAULTS_TIMES")))
        times = strtol(text, NULL, 10);
    if (!(text = getenv("WALFAULTS_DO")))
        return;
    if (!strcmp(text, "kill"))
        action = KILL;
    else if (!strcmp(text, "power"))
        action = POWER;
    else if (!strcmp(text, "short"))
        action = SHORT;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(text, errors[i].name)) {
            action = FAIL;
            error = errors[i].code;
        }
    if (action == NOTHING) {
        fprintf(stderr, "walfaults: WALFAULTS_DO=%s is unknown\n", text);
        abort();
    }
}

/* The path of what a call is about, without its links resolved; 0 where that is not below the root. */
static int locate(int descriptor, const char *name, char path[2 * PATH_MAX]) {
    size_t length = 0;
    path[0] = 0;
    if (!name || name[0] != '/') {
        char link[40];
        if (descriptor == AT_FDCWD)
            strcpy(link, "/proc/self/cwd");
        else
            snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        ssize_t count = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
        if (count < 0)
            return 0;
        length = (size_t)count;
        path[length] = 0;
    }
    if (name)
        snprintf(path + length, 2 * PATH_MAX - length, "%s%s", length ? "/" : "", name);
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* "tree", or what it is in the state folder. */
static void place_of(const char *path, char place[64]) {
    const char *rest = strstr(path + root_length, "/.wal");
    if (!rest || (rest[5] && rest[5] != '/')) {
        strcpy(place, "tree");
        return;
    }
    if (!rest[5] || !rest[6]) {
        strcpy(place, "state");
        return;
    }
    rest += 6;
    size_t length = strcspn(rest, "/");
    if (!strncmp(rest, ".walship-temporary", 18))
        strcpy(place, "temporary");
    else
        snprintf(place, 64, "%.*s", (int)(length < 63 ? length : 63), rest);
}

static int is_one_of(const char *list, const char *call) {
    size_t length = strlen(call);
    for (const char *next = list; next; next = strchr(next, ','), next = next ? next + 1 : NULL)
        if (!strncmp(next, call, length) && (next[length] == ',' || !next[length]))
            return 1;
    return 0;
}

/* Whether no thread of the process runs any more: what is in a call that cannot be interrupted returns to nobody. */
static int is_stopped(long process) {
    char path[64], entries[4096];
    snprintf(path, sizeof path, "/proc/%ld/task", process);
    int tasks = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
    int all = tasks >= 0;
    long count = 0;
    while (all && (count = syscall(SYS_getdents64, tasks, entries, sizeof entries)) > 0)
        for (long next = 0; next < count;) {
            const struct dirent64 *entry = (const struct dirent64 *)(entries + next);
            next += entry->d_reclen;
            if (entry->d_name[0] == '.')
                continue;
            char line[256] = "";
            snprintf(path, sizeof path, "%s/stat", entry->d_name);
            int file = (int)syscall(SYS_openat, tasks, path, O_RDONLY, 0);
            if (file < 0) {
                all = all && errno == ENOENT;
                continue;
            }
            syscall(SYS_read, file, line, sizeof line - 1);
            syscall(SYS_close, file);
            const char *state = strrchr(line, ')');
            all = all && state && (state[2] == 'T' || state[2] == 'D' || state[2] == 'Z');
        }
    syscall(SYS_close, tasks);
    return all && count == 0;
}

/* As a power cut ends it: all threads at once. One that ran on could be told that its data is on the disk by a sync that the
   shut down file system has not made, and tell others. So another process stops this one first. */
static void power_off(void) {
    int directory = (int)syscall(SYS_openat, AT_FDCWD, root, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    long self = syscall(SYS_getpid);
    /* Its end kills this one, when it holds nothing of the file system any more. */
    long helper = syscall(SYS_clone, SIGKILL, 0, 0, 0, 0);
    if (directory < 0 || helper < 0) {
        fprintf(stderr, "walfaults: %s cannot be shut down: %s\n", root, strerror(errno));
        abort();
    }
    while (helper > 0)
        syscall(SYS_pause);
    syscall(SYS_kill, self, SIGSTOP);
    const struct timespec moment = {.tv_nsec = 100 * 1000};
    /* Twice in a row: one that was in such a call before the stop may have returned from it since. */
    for (int times = 0; times < 2; times = is_stopped(self) ? times + 1 : 0)
        syscall(SYS_nanosleep, &moment, NULL);
    if (syscall(SYS_ioctl, directory, SHUTDOWN, &without_journal) < 0) {
        static const char text[] = "walfaults: the file system cannot be shut down\n";
        syscall(SYS_write, 2, text, sizeof text - 1);
        syscall(SYS_kill, self, SIGABRT);
        syscall(SYS_kill, self, SIGCONT);
        syscall(SYS_nanosleep, &(struct timespec){.tv_sec = 1}, NULL);
    }
    syscall(SYS_exit_group, 0);
}

/* Passes a failpoint; returns what is to happen to the call. */
static enum action pass(const char *call, int descriptor, const char *name, int is_after) {
    if (!root || inside)
        return NOTHING;
    /* There are too many of them to be in anybody's way who has not asked for them. */
    if (is_one_of("read,stat,getxattr", call) && (!only_call || !is_one_of(only_call, call)))
        return NOTHING;
    int saved = errno;
    inside = 1;
    enum action result = NOTHING;
    char path[2 * PATH_MAX], place[64];
    if (locate(descriptor, name, path)) {
        place_of(path, place);
        int counts =
            (!only_call || (!is_after && is_one_of(only_call, call))) && (!only_place || !strcmp(only_place, place));
        if (counts) {
            long number = atomic_fetch_add(&passed, 1) + 1;
            if (trace >= 0) {
                char thread[17] = "", line[160];
                prctl(PR_GET_NAME, thread);
                int length = snprintf(
                    line, sizeof line, "%s %s %s %s\n", thread, place, call, is_after ? "after" : "before");
                syscall(SYS_write, trace, line, (size_t)length);
            }
            if (action != NOTHING && at > 0 && number >= at && (!times || number < at + times))
                result = action;
            if (result == POWER)
                power_off();
            if (result == POWER || result == KILL)
                for (;;)
                    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
            if (is_after)
                result = NOTHING;
        }
    }
    inside = 0;
    errno = saved;
    return result;
}

/* Defines `call`, which forwards to the next library's, with a failpoint before it and one after. */
#define FORWARD(type, call, label, descriptor, name, parameters, arguments)                                            \
    type call parameters {                                                                                             \
        static type(*next) parameters;                                                                                 \
        if (!next)                                                                                                     \
            next = (type(*) parameters)dlsym(RTLD_NEXT, #call);                                                        \
        if (pass(label, descriptor, name, 0) == FAIL) {                                                                \
            errno = error;                                                                                             \
            return -1;                                                                                                 \
        }                                                                                                              \
        type result = next arguments;                                                                                  \
        pass(label, descriptor, name, 1);                                                                              \
        return result;                                                                                                 \
    }

/* What `next` is where it is to do nothing. */
static int do_nothing(int fd) {
    (void)fd;
    return 0;
}

static _Thread_local walfaults_observer observer;
static _Thread_local void *observed_by;

void walfaults_observe(walfaults_observer next, void *context) {
    observer = next;
    observed_by = context;
}

#define FORWARD_SYNC(call)                                                                                             \
    int call(int fd) {                                                                                                 \
        static int (*next)(int);                                                                                       \
        if (!next)                                                                                                     \
            next = lies ? do_nothing : (int (*)(int))dlsym(RTLD_NEXT, #call);                                          \
        if (pass(#call, fd, NULL, 0) == FAIL) {                                                                        \
            errno = error;                                                                                             \
            return -1;                                                                                                 \
        }                                                                                                              \
        if (observer)                                                                                                  \
            observer(observed_by, fd, 0);                                                                              \
        int result = next(fd);                                                                                         \
        pass(#call, fd, NULL, 1);                                                                                      \
        if (observer && result == 0)                                                                                   \
            observer(observed_by, fd, 1);                                                                              \
        return result;                                                                                                 \
    }

FORWARD_SYNC(fsync)
FORWARD_SYNC(fdatasync)
FORWARD_SYNC(syncfs)
FORWARD(int, ftruncate, "ftruncate", fd, NULL, (int fd, off_t size), (fd, size))
FORWARD(int, ftruncate64, "ftruncate", fd, NULL, (int fd, off64_t size), (fd, size))
FORWARD(int, fallocate, "fallocate", fd, NULL, (int fd, int mode, off_t start, off_t count), (fd, mode, start, count))
FORWARD(int, rename, "rename", AT_FDCWD, old, (const char *old, const char *new), (old, new))
FORWARD(
    int, renameat2, "rename", to, new, (int from, const char *old, int to, const char *new, unsigned flags),
    (from, old, to, new, flags))
FORWARD(int, unlink, "unlink", AT_FDCWD, path, (const char *path), (path))
FORWARD(int, unlinkat, "unlink", fd, path, (int fd, const char *path, int flags), (fd, path, flags))
FORWARD(int, mkdir, "mkdir", AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
FORWARD(int, mkdirat, "mkdir", fd, path, (int fd, const char *path, mode_t mode), (fd, path, mode))
FORWARD(
    int, mknodat, "mknod", fd, path, (int fd, const char *path, mode_t mode, dev_t device), (fd, path, mode, device))
FORWARD(int, symlinkat, "symlink", fd, path, (const char *target, int fd, const char *path), (target, fd, path))
FORWARD(
    int, linkat, "link", to, new, (int from, const char *old, int to, const char *new, int flags),
    (from, old, to, new, flags))
FORWARD(int, fchmod, "chmod", fd, NULL, (int fd, mode_t mode), (fd, mode))
FORWARD(int, fchmodat, "chmod", fd, path, (int fd, const char *path, mode_t mode, int flags), (fd, path, mode, flags))
FORWARD(int, fchown, "chown", fd, NULL, (int fd, uid_t user, gid_t group), (fd, user, group))
FORWARD(
    int, fchownat, "chown", fd, path, (int fd, const char *path, uid_t user, gid_t group, int flags),
    (fd, path, user, group, flags))
FORWARD(int, futimens, "utimens", fd, NULL, (int fd, const struct timespec times[2]), (fd, times))
FORWARD(
    int, utimensat, "utimens", fd, path, (int fd, const char *path, const struct timespec times[2], int flags),
    (fd, path, times, flags))
FORWARD(
    int, fsetxattr, "setxattr", fd, NULL, (int fd, const char *key, const void *value, size_t size, int flags),
    (fd, key, value, size, flags))
FORWARD(
    int, lsetxattr, "setxattr", AT_FDCWD, path,
    (const char *path, const char *key, const void *value, size_t size, int flags), (path, key, value, size, flags))
FORWARD(int, fremovexattr, "removexattr", fd, NULL, (int fd, const char *key), (fd, key))
FORWARD(int, lremovexattr, "removexattr", AT_FDCWD, path, (const char *path, const char *key), (path, key))
FORWARD(
    ssize_t, copy_file_range, "copy_file_range", to, NULL,
    (int from, off64_t *start, int to, off64_t *target, size_t count, unsigned flags),
    (from, start, to, target, count, flags))

FORWARD(
    int, statx, "stat", fd, *path ? path : NULL,
    (int fd, const char *path, int flags, unsigned mask, struct statx *status), (fd, path, flags, mask, status))
/* There was no call for the attributes of a name in an open directory: the way leads through "/proc/self/fd/N/NAME". */
static const char in_open[] = "/proc/self/fd/";
static int open_directory(const char *path) {
    return strncmp(path, in_open, sizeof in_open - 1) ? AT_FDCWD : atoi(path + sizeof in_open - 1);
}
static const char *name_in_open(const char *path) {
    const char *name = strncmp(path, in_open, sizeof in_open - 1) ? NULL : strchr(path + sizeof in_open - 1, '/');
    return name ? name + 1 : path;
}

FORWARD(ssize_t, flistxattr, "getxattr", fd, NULL, (int fd, char *keys, size_t size), (fd, keys, size))
FORWARD(
    ssize_t, llistxattr, "getxattr", open_directory(path), name_in_open(path),
    (const char *path, char *keys, size_t size), (path, keys, size))
FORWARD(
    ssize_t, fgetxattr, "getxattr", fd, NULL, (int fd, const char *key, void *value, size_t size),
    (fd, key, value, size))
FORWARD(
    ssize_t, lgetxattr, "getxattr", open_directory(path), name_in_open(path),
    (const char *path, const char *key, void *value, size_t size), (path, key, value, size))

/* Of reads and writes a part may be done. */
#define FORWARD_PART(label, call, parameters, arguments)                                                               \
    ssize_t call parameters {                                                                                          \
        static ssize_t(*next) parameters;                                                                              \
        if (!next)                                                                                                     \
            next = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #call);                                                     \
        switch (pass(label, fd, NULL, 0)) {                                                                            \
        case FAIL:                                                                                                     \
            errno = error;                                                                                             \
            return -1;                                                                                                 \
        case SHORT: count = count > 1 ? count / 2 : count; break;                                                      \
        default: break;                                                                                                \
        }                                                                                                              \
        ssize_t result = next arguments;                                                                               \
        pass(label, fd, NULL, 1);                                                                                      \
        return result;                                                                                                 \
    }

FORWARD_PART("write", write, (int fd, const void *bytes, size_t count), (fd, bytes, count))
FORWARD_PART("write", pwrite, (int fd, const void *bytes, size_t count, off_t start), (fd, bytes, count, start))
FORWARD_PART("write", pwrite64, (int fd, const void *bytes, size_t count, off64_t start), (fd, bytes, count, start))
FORWARD_PART("write", writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
FORWARD_PART("write", pwritev, (int fd, const struct iovec *parts, int count, off_t start), (fd, parts, count, start))
FORWARD_PART("read", read, (int fd, void *bytes, size_t count), (fd, bytes, count))
FORWARD_PART("read", pread, (int fd, void *bytes, size_t count, off_t start), (fd, bytes, count, start))
FORWARD_PART("read", pread64, (int fd, void *bytes, size_t count, off64_t start), (fd, bytes, count, start))
FORWARD_PART("read", getdents64, (int fd, void *bytes, size_t count), (fd, bytes, count))
FORWARD_PART("read", preadv, (int fd, const struct iovec *parts, int count, off_t start), (fd, parts, count, start))

/* Only those that may create or empty something change anything. */
#define FORWARD_OPEN(call, label, descriptor, parameters, before_mode, next_type)                                      \
    int call parameters {                                                                                              \
        static next_type;                                                                                              \
        mode_t mode = 0;                                                                                               \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                                         \
            va_list list;                                                                                              \
            va_start(list, flags);                                                                                     \
            mode = va_arg(list, mode_t);                                                                               \
            va_end(list);                                                                                              \
        }                                                                                                              \
        if (!next)                                                                                                     \
            *(void **)&next = dlsym(RTLD_NEXT, #call);                                                                 \
        int changes = flags & (O_CREAT | O_TRUNC);                                                                     \
        if (changes && pass(label, descriptor, path, 0) == FAIL) {                                                     \
            errno = error;                                                                                             \
            return -1;                                                                                                 \
        }                                                                                                              \
        int result = next(before_mode, mode);                                                                          \
        if (changes)                                                                                                   \
            pass(label, descriptor, path, 1);                                                                          \
        return result;                                                                                                 \
    }
#define AND ,

FORWARD_OPEN(open, "create", AT_FDCWD, (const char *path, int flags, ...), path AND flags, int (*next)(const char *, int, ...))
FORWARD_OPEN(open64, "create", AT_FDCWD, (const char *path, int flags, ...), path AND flags, int (*next)(const char *, int, ...))
FORWARD_OPEN(openat, "create", fd, (int fd, const char *path, int flags, ...), fd AND path AND flags, int (*next)(int, const char *, int, ...))
FORWARD_OPEN(openat64, "create", fd, (int fd, const char *path, int flags, ...), fd AND path AND flags, int (*next)(int, const char *, int, ...))

#define _GNU_SOURCE
#include "clinux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define RETRY(expression)                                                                                              \
    ({                                                                                                                 \
        __typeof__(expression) retry_result;                                                                           \
        do                                                                                                             \
            retry_result = (expression);                                                                               \
        while (retry_result == -1 && errno == EINTR);                                                                  \
        retry_result == -1 ? -errno : retry_result;                                                                    \
    })

enum { NAME_BUFFER = NAME_MAX + 1 };

static int copy_name(char out[NAME_BUFFER], const uint8_t *name, size_t length) {
    if (length == 0 || length > NAME_MAX || memchr(name, 0, length) || memchr(name, '/', length))
        return -EINVAL;
    if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')))
        return -EINVAL;
    memcpy(out, name, length);
    out[length] = 0;
    return 0;
}

#define NAME(variable, bytes, length)                                                                                  \
    char variable[NAME_BUFFER];                                                                                        \
    if (copy_name(variable, bytes, length) != 0)                                                                       \
    return -EINVAL

/* Directories and names. */

enum { DIRECTORY_FLAGS = O_RDONLY | O_DIRECTORY | O_CLOEXEC };

int cl_open_directory(const char *path) { return RETRY(open(path, DIRECTORY_FLAGS)); }

int cl_open_directory_beneath(int directory, const char *path) {
    struct open_how how = {
        .flags = DIRECTORY_FLAGS,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int result;
    int attempts = 0;
    /* EAGAIN: a rename elsewhere made the kernel unsure whether the path stayed beneath (openat2(2)). */
    do
        result = RETRY((int)syscall(SYS_openat2, directory, path, &how, sizeof how));
    while (result == -EAGAIN && ++attempts < 64);
    return result;
}

int cl_open_directory_name(int directory, const uint8_t *name, size_t length) {
    NAME(text, name, length);
    return RETRY(openat(directory, text, DIRECTORY_FLAGS | O_NOFOLLOW));
}

int cl_reopen_directory(int directory) { return RETRY(openat(directory, ".", DIRECTORY_FLAGS)); }

/* O_NONBLOCK: a FIFO that took the file's place must not hang the opener. Regular files ignore the flag. */
enum { FILE_FLAGS = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY };

int cl_open_file(int directory, const uint8_t *name, size_t length, int keep_access_time) {
    NAME(text, name, length);
    if (keep_access_time) {
        int result = RETRY(openat(directory, text, O_RDONLY | O_NOATIME | FILE_FLAGS));
        /* Only the owner and CAP_FOWNER may ask for O_NOATIME. */
        if (result != -EPERM)
            return result;
    }
    return RETRY(openat(directory, text, O_RDONLY | FILE_FLAGS));
}

int cl_open_file_for_writing(int directory, const uint8_t *name, size_t length) {
    NAME(text, name, length);
    return RETRY(openat(directory, text, O_RDWR | FILE_FLAGS));
}

int cl_create_file(int directory, const uint8_t *name, size_t length, uint32_t permissions, int exclusive) {
    NAME(text, name, length);
    int flags = O_RDWR | O_CREAT | FILE_FLAGS | (exclusive ? O_EXCL : 0);
    return RETRY(openat(directory, text, flags, (mode_t)permissions));
}

int cl_open_proc(const char *path) { return RETRY(open(path, O_RDONLY | O_CLOEXEC)); }

int cl_close(int descriptor) {
    /* Linux has released the descriptor when close is interrupted: a second close could hit another thread's file. */
    if (close(descriptor) == 0 || errno == EINTR)
        return 0;
    return -errno;
}

static int status_at(int directory, const char *path, int flags, struct cl_status *out) {
    struct statx status;
    int result = RETRY(statx(directory, path, flags | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &status));
    if (result < 0)
        return result;
    memset(out, 0, sizeof *out);
    out->ino = status.stx_ino;
    out->size = status.stx_size;
    out->blocks = status.stx_blocks;
    out->device = makedev(status.stx_dev_major, status.stx_dev_minor);
    out->mtime_seconds = status.stx_mtime.tv_sec;
    out->mtime_nanoseconds = status.stx_mtime.tv_nsec;
    out->ctime_seconds = status.stx_ctime.tv_sec;
    out->ctime_nanoseconds = status.stx_ctime.tv_nsec;
    if (status.stx_mask & STATX_BTIME) {
        out->btime_seconds = status.stx_btime.tv_sec;
        out->btime_nanoseconds = status.stx_btime.tv_nsec;
    }
    out->link_count = status.stx_nlink;
    out->uid = status.stx_uid;
    out->gid = status.stx_gid;
    out->node_major = status.stx_rdev_major;
    out->node_minor = status.stx_rdev_minor;
    out->mode = status.stx_mode;
    out->is_immutable = (status.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0;
    out->is_mount_root = (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
    return 0;
}

int cl_status_of(int directory, const uint8_t *name, size_t length, struct cl_status *status) {
    NAME(text, name, length);
    return status_at(directory, text, AT_SYMLINK_NOFOLLOW, status);
}

int cl_descriptor_status(int descriptor, struct cl_status *status) {
    return status_at(descriptor, "", AT_EMPTY_PATH, status);
}

int64_t cl_getdents(int directory, void *buffer, size_t length) {
    return RETRY(getdents64(directory, buffer, length));
}

int cl_make_directory(int directory, const uint8_t *name, size_t length, uint32_t permissions) {
    NAME(text, name, length);
    return RETRY(mkdirat(directory, text, (mode_t)permissions));
}

int cl_make_symlink(const char *target, int directory, const uint8_t *name, size_t length) {
    NAME(text, name, length);
    return RETRY(symlinkat(target, directory, text));
}

int64_t cl_read_link(int directory, const uint8_t *name, size_t length, void *buffer, size_t capacity) {
    NAME(text, name, length);
    return RETRY(readlinkat(directory, text, buffer, capacity));
}

static void descriptor_link(char out[32], int descriptor) { snprintf(out, 32, "/proc/self/fd/%d", descriptor); }

int64_t cl_descriptor_path(int descriptor, void *buffer, size_t capacity) {
    char link[32];
    descriptor_link(link, descriptor);
    return RETRY(readlink(link, buffer, capacity));
}

int cl_link(int from, const uint8_t *name, size_t length, int to, const uint8_t *new_name, size_t new_length) {
    NAME(text, name, length);
    NAME(new_text, new_name, new_length);
    return RETRY(linkat(from, text, to, new_text, 0));
}

int cl_unlink(int directory, const uint8_t *name, size_t length, int is_directory) {
    NAME(text, name, length);
    return RETRY(unlinkat(directory, text, is_directory ? AT_REMOVEDIR : 0));
}

int cl_rename(
    int from, const uint8_t *name, size_t length, int to, const uint8_t *new_name, size_t new_length, int no_replace,
    int exchange) {
    NAME(text, name, length);
    NAME(new_text, new_name, new_length);
    unsigned flags = (no_replace ? RENAME_NOREPLACE : 0) | (exchange ? RENAME_EXCHANGE : 0);
    return RETRY(renameat2(from, text, to, new_text, flags));
}

int cl_set_owner_of(int directory, const uint8_t *name, size_t length, uint32_t uid, uint32_t gid) {
    NAME(text, name, length);
    return RETRY(fchownat(directory, text, uid, gid, AT_SYMLINK_NOFOLLOW));
}

int cl_set_mode_of(int directory, const uint8_t *name, size_t length, uint32_t mode) {
    NAME(text, name, length);
    /* Without the flag a symlink swapped in here would change the mode of a file anywhere; with it: EOPNOTSUPP. */
    return RETRY(fchmodat(directory, text, (mode_t)mode, AT_SYMLINK_NOFOLLOW));
}

int cl_set_mtime_of(int directory, const uint8_t *name, size_t length, int64_t seconds, uint32_t nanoseconds) {
    NAME(text, name, length);
    struct timespec times[2] = {{0, UTIME_OMIT}, {seconds, nanoseconds}};
    /* UTIME_NOW and UTIME_OMIT lie beyond a second: a hostile value must not be taken for them. */
    if (nanoseconds > 999999999)
        return -EINVAL;
    return RETRY(utimensat(directory, text, times, AT_SYMLINK_NOFOLLOW));
}

int cl_set_owner(int descriptor, uint32_t uid, uint32_t gid) { return RETRY(fchown(descriptor, uid, gid)); }

int cl_set_mode(int descriptor, uint32_t mode) { return RETRY(fchmod(descriptor, (mode_t)mode)); }

int cl_set_mtime(int descriptor, int64_t seconds, uint32_t nanoseconds) {
    struct timespec times[2] = {{0, UTIME_OMIT}, {seconds, nanoseconds}};
    if (nanoseconds > 999999999)
        return -EINVAL;
    return RETRY(futimens(descriptor, times));
}

/* Content. */

int64_t cl_read(int descriptor, void *buffer, size_t length, int64_t offset) {
    size_t done = 0;
    while (done < length) {
        int64_t count = RETRY(pread(descriptor, (char *)buffer + done, length - done, offset + (int64_t)done));
        if (count < 0)
            return count;
        if (count == 0)
            break;
        done += (size_t)count;
    }
    return (int64_t)done;
}

int cl_write(int descriptor, const void *buffer, size_t length, int64_t offset) {
    size_t done = 0;
    while (done < length) {
        int64_t count = RETRY(pwrite(descriptor, (const char *)buffer + done, length - done, offset + (int64_t)done));
        if (count < 0)
            return (int)count;
        /* A write of nothing would loop for ever. */
        if (count == 0)
            return -EIO;
        done += (size_t)count;
    }
    return 0;
}

int cl_write_slices(int descriptor, const struct cl_slice *slices, size_t count, int64_t offset) {
    enum { BATCH = 64 };
    struct iovec vectors[BATCH];
    size_t index = 0;   /* the first slice that is not wholly written */
    size_t skipped = 0; /* bytes of it that are */
    for (;;) {
        while (index < count && slices[index].length == skipped) {
            index++;
            skipped = 0;
        }
        if (index == count)
            return 0;
        int used = 0;
        for (size_t next = index; next < count && used < BATCH; next++) {
            size_t skip = next == index ? skipped : 0;
            if (slices[next].length == skip)
                continue;
            vectors[used].iov_base = (char *)slices[next].base + skip;
            vectors[used].iov_len = slices[next].length - skip;
            used++;
        }
        int64_t written = RETRY(pwritev(descriptor, vectors, used, offset));
        if (written < 0)
            return (int)written;
        if (written == 0)
            return -EIO;
        offset += written;
        while (written > 0) {
            size_t left = slices[index].length - skipped;
            if ((size_t)written < left) {
                skipped += (size_t)written;
                break;
            }
            written -= (int64_t)left;
            index++;
            skipped = 0;
        }
    }
}

int64_t cl_read_stream(int descriptor, void *buffer, size_t length) { return RETRY(read(descriptor, buffer, length)); }

int cl_truncate(int descriptor, int64_t size) { return RETRY(ftruncate(descriptor, size)); }

int cl_fsync(int descriptor) { return RETRY(fsync(descriptor)); }

int cl_fdatasync(int descriptor) { return RETRY(fdatasync(descriptor)); }

int cl_syncfs(int descriptor) { return RETRY(syncfs(descriptor)); }

int cl_allocate(int descriptor, int64_t offset, int64_t length) {
    return RETRY(fallocate(descriptor, FALLOC_FL_KEEP_SIZE, offset, length));
}

int cl_allocate_open(const char *path, int64_t length) {
    struct stat wanted, status;
    if (stat(path, &wanted) != 0)
        return -errno;
    DIR *descriptors = opendir("/proc/self/fd");
    if (!descriptors)
        return -errno;
    int result = 0;
    for (struct dirent *entry = readdir(descriptors); entry; entry = readdir(descriptors)) {
        int descriptor = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fstat(descriptor, &status) != 0 || status.st_dev != wanted.st_dev ||
            status.st_ino != wanted.st_ino || (fcntl(descriptor, F_GETFL) & O_ACCMODE) == O_RDONLY)
            continue;
        result = cl_allocate(descriptor, 0, length);
        break;
    }
    closedir(descriptors);
    return result;
}

int cl_punch_hole(int descriptor, int64_t offset, int64_t length) {
    return RETRY(fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
}

int64_t cl_copy_file_range(int from, int64_t from_offset, int to, int64_t to_offset, size_t length) {
    off64_t source = from_offset, target = to_offset;
    return RETRY(copy_file_range(from, &source, to, &target, length, 0));
}

int cl_clone(int from, int to) { return RETRY(ioctl(to, FICLONE, from)); }

int64_t cl_seek_data(int descriptor, int64_t offset) { return RETRY(lseek(descriptor, offset, SEEK_DATA)); }

int64_t cl_seek_hole(int descriptor, int64_t offset) { return RETRY(lseek(descriptor, offset, SEEK_HOLE)); }

void cl_advise_sequential(int descriptor) { (void)posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL); }

void cl_advise_not_needed(int descriptor, int64_t offset, int64_t length) {
    (void)posix_fadvise(descriptor, offset, length, POSIX_FADV_DONTNEED);
}

int cl_may_change_names(int directory) {
    return faccessat(directory, ".", W_OK | X_OK, AT_EACCESS) == 0;
}

int cl_lock_exclusive(int descriptor) {
    int result = RETRY(flock(descriptor, LOCK_EX | LOCK_NB));
    if (result == -EWOULDBLOCK)
        return 0;
    return result < 0 ? result : 1;
}

/* Notification. */

int cl_inotify_create(void) { return RETRY(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)); }

int cl_inotify_add(int inotify, int descriptor, uint32_t mask) {
    char link[32];
    descriptor_link(link, descriptor);
    return RETRY(inotify_add_watch(inotify, link, mask));
}

int cl_inotify_remove(int inotify, int watch) { return RETRY(inotify_rm_watch(inotify, watch)); }

int cl_fanotify_create(void) {
    /* Events name the directory by its file handle, and the entry in it: nothing is opened for us. */
    unsigned int flags = FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_CLOEXEC | FAN_NONBLOCK;
    return RETRY(fanotify_init(flags, O_RDONLY | O_CLOEXEC | O_LARGEFILE));
}

int cl_fanotify_watch_filesystem(int fanotify, int descriptor, uint64_t mask) {
    char link[32];
    descriptor_link(link, descriptor);
    return RETRY(fanotify_mark(fanotify, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask | FAN_ONDIR, AT_FDCWD, link));
}

int64_t cl_file_handle(int descriptor, void *buffer, size_t capacity) {
    if (capacity < sizeof(struct file_handle))
        return -EINVAL;
    struct file_handle *handle = buffer;
    handle->handle_bytes = (unsigned int)(capacity - sizeof *handle);
    int mount;
    int result = RETRY(name_to_handle_at(descriptor, "", handle, &mount, AT_EMPTY_PATH));
    return result < 0 ? result : (int64_t)(sizeof *handle + handle->handle_bytes);
}

int cl_eventfd_create(void) { return RETRY(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

int cl_eventfd_signal(int descriptor) {
    uint64_t one = 1;
    int64_t result = RETRY(write(descriptor, &one, sizeof one));
    /* EAGAIN: the counter is full, so the reader is awake anyway. */
    return result < 0 && result != -EAGAIN ? (int)result : 0;
}

int cl_eventfd_drain(int descriptor) {
    uint64_t count;
    int64_t result = RETRY(read(descriptor, &count, sizeof count));
    return result < 0 && result != -EAGAIN ? (int)result : 0;
}

int cl_poll(const int32_t *descriptors, size_t count, size_t urgent, int64_t timeout_milliseconds, uint8_t *ready) {
    enum { MOST = 64 };
    struct pollfd entries[MOST];
    if (count > MOST)
        return -EINVAL;
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct pollfd){.fd = descriptors[i], .events = i + urgent < count ? POLLIN : POLLPRI};
    uint64_t start = cl_monotonic_nanoseconds();
    int64_t left = timeout_milliseconds;
    int found;
    for (;;) {
        int wait = left < 0 ? -1 : left > INT_MAX ? INT_MAX : (int)left;
        found = poll(entries, count, wait);
        if (found > 0)
            break;
        if (found < 0 && errno != EINTR)
            return -errno;
        if (timeout_milliseconds < 0)
            continue;
        left = timeout_milliseconds - (int64_t)((cl_monotonic_nanoseconds() - start) / 1000000);
        if (left <= 0) {
            found = 0;
            break;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (found > 0 && (entries[i].revents & POLLNVAL))
            return -EBADF;
        ready[i] = found > 0 && entries[i].revents != 0;
    }
    return found;
}

/* Before main(), because the runtime opens descriptors of its own there: puts something in the place of standard input,
 * output and error where the caller has closed them. Else the next file that is opened, perhaps the log of a tree, would
 * get the number, and be written to by whoever prints a line. Using the closed one fails as it did, with EBADF. */
__attribute__((constructor)) static void keep_standard_descriptors(void) {
    for (int descriptor = 0; descriptor <= 2; descriptor++) {
        /* The lowest number that is free is taken, which is this one. */
        if (fcntl(descriptor, F_GETFD) == -1 && open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY) == -1)
            return;
    }
}

/* The machine and the process. */

int cl_descriptor_space(int descriptor, struct cl_space *space) {
    struct statvfs status;
    int result = RETRY(fstatvfs(descriptor, &status));
    if (result < 0)
        return result;
    space->total_bytes = (uint64_t)status.f_blocks * status.f_frsize;
    space->available_bytes = (uint64_t)status.f_bavail * status.f_frsize;
    space->free_inodes = status.f_favail;
    space->block_bytes = status.f_frsize;
    return 0;
}

int cl_random(void *buffer, size_t length) {
    size_t done = 0;
    while (done < length) {
        int64_t count = RETRY(getrandom((char *)buffer + done, length - done, 0));
        if (count < 0)
            return (int)count;
        done += (size_t)count;
    }
    return 0;
}

int64_t cl_realtime_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t cl_monotonic_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int cl_host_name(char *buffer, size_t length) {
    int result = RETRY(gethostname(buffer, length));
    if (length > 0)
        buffer[length - 1] = 0;
    return result;
}

int cl_process_exists(int32_t pid) {
    /* 0 and negative numbers name groups of processes (kill(2)). */
    if (pid <= 0)
        return 0;
    return kill(pid, 0) == 0 || errno == EPERM;
}

int64_t cl_raise_open_files_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return -errno;
    if (limit.rlim_cur != limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return -errno;
    }
    return limit.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
}

int cl_thread_start(size_t stack_bytes, void *(*body)(void *), void *argument) {
    pthread_attr_t attributes;
    int result = pthread_attr_init(&attributes);
    if (result != 0)
        return -result;
    size_t stack = stack_bytes < (size_t)PTHREAD_STACK_MIN ? (size_t)PTHREAD_STACK_MIN : stack_bytes;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    result = pthread_attr_setstacksize(&attributes, stack);

    /* A new thread inherits the mask. Signals that the thread's own code raises stay open, for the crash handlers. */
    sigset_t blocked, before;
    sigfillset(&blocked);
    const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    pthread_t thread;
    if (result == 0)
        result = pthread_create(&thread, &attributes, body, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -result;
}

void cl_thread_name(const char *name) {
    char text[16];
    snprintf(text, sizeof text, "%s", name);
    (void)pthread_setname_np(pthread_self(), text);
}

const char *cl_error_text(int code) {
    const char *text = strerrordesc_np(code);
    return text ? text : "unknown error";
}

int cl_duplicate(int descriptor)
{
    int result = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    return result < 0 ? -errno : result;
}

void cl_allocator_keep(size_t keep)
{
    mallopt(M_MMAP_THRESHOLD, (int)keep);
    mallopt(M_TRIM_THRESHOLD, (int)keep);
}

/* Extended attributes, xattr(7). No call takes a directory and a name before Linux 6.13, so the way goes through /proc;
   the forms with `l` follow no symlink in the last component. Without a name the open object itself is meant. */

#define OBJECT_PATH(variable, descriptor, name, length)                                                                \
    char variable[32 + NAME_BUFFER];                                                                                   \
    if (object_path(variable, descriptor, name, length) != 0)                                                          \
    return -EINVAL

static int object_path(char out[32 + NAME_BUFFER], int descriptor, const uint8_t *name, size_t length) {
    char text[NAME_BUFFER];
    if (copy_name(text, name, length) != 0)
        return -EINVAL;
    snprintf(out, 32 + NAME_BUFFER, "/proc/self/fd/%d/%s", descriptor, text);
    return 0;
}

int64_t cl_list_attributes(int descriptor, const uint8_t *name, size_t length, void *buffer, size_t capacity) {
    if (length == 0)
        return RETRY(flistxattr(descriptor, buffer, capacity));
    OBJECT_PATH(path, descriptor, name, length);
    return RETRY(llistxattr(path, buffer, capacity));
}

int64_t cl_get_attribute(
    int descriptor, const uint8_t *name, size_t length, const char *attribute, void *buffer, size_t capacity) {
    if (length == 0)
        return RETRY(fgetxattr(descriptor, attribute, buffer, capacity));
    OBJECT_PATH(path, descriptor, name, length);
    return RETRY(lgetxattr(path, attribute, buffer, capacity));
}

int cl_set_attribute(
    int descriptor, const uint8_t *name, size_t length, const char *attribute, const void *value, size_t count) {
    if (length == 0)
        return RETRY(fsetxattr(descriptor, attribute, value, count, 0));
    OBJECT_PATH(path, descriptor, name, length);
    return RETRY(lsetxattr(path, attribute, value, count, 0));
}

int cl_remove_attribute(int descriptor, const uint8_t *name, size_t length, const char *attribute) {
    if (length == 0)
        return RETRY(fremovexattr(descriptor, attribute));
    OBJECT_PATH(path, descriptor, name, length);
    return RETRY(lremovexattr(path, attribute));
}

/* FIFOs and devices. `type` is the S_IFMT part of a mode. */

int cl_make_node(
    int directory, const uint8_t *name, size_t length, uint32_t type, uint32_t permissions, uint32_t major,
    uint32_t minor) {
    NAME(text, name, length);
    return RETRY(mknodat(directory, text, (mode_t)(type | permissions), makedev(major, minor)));
}

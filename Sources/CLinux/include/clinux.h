/* What Swift cannot import from Linux by itself: system calls without a plain glibc wrapper, variadic functions, and
 * structs with anonymous unions. Every function returns a value >= 0, or -errno, so that errno is never read across
 * the language border. Calls that POSIX allows to be interrupted are retried here, close(2) excepted.
 *
 * `name, length` is one component of a path without its NUL. Empty, longer than 255 bytes, ".", "..", or with a NUL or
 * a slash inside: -EINVAL. This is the last line of defence against a name that leads out of its directory. */
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
#include <stdint.h>

/* Directories and names. */
int cl_open_directory(const char *path);
int cl_open_directory_beneath(int directory, const char *path);
int cl_open_directory_name(int directory, const uint8_t *name, size_t length);
int cl_reopen_directory(int directory);
int cl_open_file(int directory, const uint8_t *name, size_t length, int keep_access_time);
int cl_open_file_for_writing(int directory, const uint8_t *name, size_t length);
int cl_create_file(int directory, const uint8_t *name, size_t length, uint32_t permissions, int exclusive);
int cl_open_proc(const char *path);
int cl_close(int descriptor);

struct cl_status {
    uint64_t ino, size, blocks, device;
    int64_t mtime_seconds, ctime_seconds, btime_seconds;
    uint32_t mtime_nanoseconds, ctime_nanoseconds, btime_nanoseconds;
    uint32_t link_count, uid, gid, node_major, node_minor;
    uint16_t mode;
    uint8_t is_mount_root, is_immutable;
};
int cl_status_of(int directory, const uint8_t *name, size_t length, struct cl_status *status);
int cl_descriptor_status(int descriptor, struct cl_status *status);

int64_t cl_getdents(int directory, void *buffer, size_t length);
int cl_make_directory(int directory, const uint8_t *name, size_t length, uint32_t permissions);
int64_t cl_list_attributes(int descriptor, const uint8_t *name, size_t length, void *buffer, size_t capacity);
int64_t cl_get_attribute(
    int descriptor, const uint8_t *name, size_t length, const char *attribute, void *buffer, size_t capacity);
int cl_set_attribute(
    int descriptor, const uint8_t *name, size_t length, const char *attribute, const void *value, size_t count);
int cl_remove_attribute(int descriptor, const uint8_t *name, size_t length, const char *attribute);
int cl_make_node(
    int directory, const uint8_t *name, size_t length, uint32_t type, uint32_t permissions, uint32_t major,
    uint32_t minor);
int cl_make_symlink(const char *target, int directory, const uint8_t *name, size_t length);
int64_t cl_read_link(int directory, const uint8_t *name, size_t length, void *buffer, size_t capacity);
int64_t cl_descriptor_path(int descriptor, void *buffer, size_t capacity);
int cl_link(int from, const uint8_t *name, size_t length, int to, const uint8_t *new_name, size_t new_length);
int cl_unlink(int directory, const uint8_t *name, size_t length, int is_directory);
int cl_rename(
    int from, const uint8_t *name, size_t length, int to, const uint8_t *new_name, size_t new_length, int no_replace,
    int exchange);
int cl_set_owner_of(int directory, const uint8_t *name, size_t length, uint32_t uid, uint32_t gid);
int cl_set_mode_of(int directory, const uint8_t *name, size_t length, uint32_t mode);
int cl_set_mtime_of(int directory, const uint8_t *name, size_t length, int64_t seconds, uint32_t nanoseconds);
int cl_set_owner(int descriptor, uint32_t uid, uint32_t gid);
int cl_set_mode(int descriptor, uint32_t mode);
int cl_set_mtime(int descriptor, int64_t seconds, uint32_t nanoseconds);

/* Content. `read` and `write` go on until all is done, or until the end of the file. */
struct cl_slice {
    const void *base;
    size_t length;
};
int64_t cl_read(int descriptor, void *buffer, size_t length, int64_t offset);
int cl_write(int descriptor, const void *buffer, size_t length, int64_t offset);
int cl_write_slices(int descriptor, const struct cl_slice *slices, size_t count, int64_t offset);
int64_t cl_read_stream(int descriptor, void *buffer, size_t length);
int cl_truncate(int descriptor, int64_t size);
int cl_fsync(int descriptor);
int cl_fdatasync(int descriptor);
int cl_syncfs(int descriptor);
int cl_allocate(int descriptor, int64_t offset, int64_t length);
/* Allocates in a file that this process has open already, without a descriptor of its own: closing that would give back
   the locks that others in this process hold on the file, fcntl(2). 0 too when nobody here has it open for writing. */
int cl_allocate_open(const char *path, int64_t length);
int cl_punch_hole(int descriptor, int64_t offset, int64_t length);
int64_t cl_copy_file_range(int from, int64_t from_offset, int to, int64_t to_offset, size_t length);
int cl_clone(int from, int to);
int64_t cl_seek_data(int descriptor, int64_t offset);
int64_t cl_seek_hole(int descriptor, int64_t offset);
void cl_advise_sequential(int descriptor);
void cl_advise_not_needed(int descriptor, int64_t offset, int64_t length);
/* May this process make and remove names in the directory? faccessat(2); 1 or 0. */
int cl_may_change_names(int directory);
/* 1: locked, 0: somebody else has it. */
int cl_lock_exclusive(int descriptor);

/* Notification. */
int cl_inotify_create(void);
int cl_inotify_add(int inotify, int descriptor, uint32_t mask);
int cl_inotify_remove(int inotify, int watch);
int cl_fanotify_create(void);
/* All directories of the file system that holds the descriptor's object. */
int cl_fanotify_watch_filesystem(int fanotify, int descriptor, uint64_t mask);
/* Fills the buffer with a `struct file_handle` and returns its bytes; the buffer must be aligned for one. */
int64_t cl_file_handle(int descriptor, void *buffer, size_t capacity);
int cl_eventfd_create(void);
int cl_eventfd_signal(int descriptor);
int cl_eventfd_drain(int descriptor);
/* Sets ready[i] to 1 for every descriptor that can be read, has failed or was hung up; returns their number. The last
 * `urgent` of them can be read at any time, so of these only the rest and POLLPRI count. A negative timeout waits for
 * ever. */
int cl_poll(const int32_t *descriptors, size_t count, size_t urgent, int64_t timeout_milliseconds, uint8_t *ready);

/* The machine and the process. */
struct cl_space {
    uint64_t total_bytes, available_bytes, free_inodes, block_bytes;
};
int cl_descriptor_space(int descriptor, struct cl_space *space);
/* A second descriptor of the same open file, closed on exec. */
int cl_duplicate(int descriptor);
/* Lets the allocator keep blocks of up to `keep` bytes, and `keep` bytes of free memory, for the next use. */
void cl_allocator_keep(size_t keep);
int cl_random(void *buffer, size_t length);
int64_t cl_realtime_nanoseconds(void);
uint64_t cl_monotonic_nanoseconds(void);
int cl_host_name(char *buffer, size_t length);
int cl_process_exists(int32_t pid);
int64_t cl_raise_open_files_limit(void);
/* Runs body(argument) on a detached thread that takes no asynchronous signals. */
int cl_thread_start(size_t stack_bytes, void *(*body)(void *), void *argument);
/* Names the calling thread; the name is cut to 15 bytes. */
void cl_thread_name(const char *name);
/* Never NULL; the text lives for ever and is not localised. */
const char *cl_error_text(int code);

#endif

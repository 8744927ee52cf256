/* A library to be preloaded into the programs, ld.so(8), for tests of what they survive. It stands between them and the
 * C library, and so before and after every call that changes something below one directory, those of SQLite included;
 * the programs are those that are shipped.
 *
 * Each call is two failpoints. A failpoint has a name, "THREAD PLACE CALL before" or "... after", where PLACE is "tree" or
 * what in the state folder the call is about. Of a process the failpoints are numbered from 1, in the order in which they
 * are passed.
 *
 *   WALFAULTS_ROOT   the directory, an absolute path without symbolic links; nothing is done without it
 *   WALFAULTS_LIE    fsync, fdatasync and syncfs do nothing and say that they did
 *   WALFAULTS_TRACE  a file to which the name of each failpoint is appended as it is passed
 *   WALFAULTS_AT     the number of the failpoint at which something happens
 *   WALFAULTS_CALL   only failpoints before this call count for that, as "fsync", or before one of these, as "fsync,rename";
 *                    "read", "stat" and "getxattr" are ones only where they are named here
 *   WALFAULTS_PLACE  only failpoints of this PLACE count
 *   WALFAULTS_TIMES  at so many failpoints in a row, 1 without it, 0 for all that follow
 *   WALFAULTS_DO     what happens:
 *     kill           the process ends, as by SIGKILL: all that it has written is there
 *     power          the file system stops as when the power fails, FS_IOC_SHUTDOWN, and the process ends: only what was
 *                    synced is there after the next mount
 *     short          a write writes half of its bytes, a read reads half of them
 *     EIO, ENOSPC... the call fails so, and does nothing; only before a call */
#ifndef WALFAULTS_H
#define WALFAULTS_H

/* For a test that has the library in its own process: called on the thread that asked for it before each fsync, fdatasync
 * and syncfs of that thread, and after each that succeeded. NULL ends it. */
typedef void (*walfaults_observer)(void *context, int descriptor, int is_after);
void walfaults_observe(walfaults_observer observer, void *context);
#endif

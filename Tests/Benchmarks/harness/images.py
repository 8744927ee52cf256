"""Fresh ext4 filesystems on loop devices.

A benchmark that creates many files needs a filesystem of its own: ext4 creates new files slowly for minutes after many
were deleted, so that a second run on the same filesystem would measure the first one's leavings.

Nothing is left behind. The image file is unlinked as soon as it is mounted, the loop device frees itself at unmount,
and the mounts live in a mount namespace of this process, which the kernel tears down even after SIGKILL.
"""

import contextlib
import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile
import time

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_UNMOUNT_SECONDS = 10


def _check(result, call):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def private_mounts():
    """Moves this process, and all that it starts later, into a mount namespace of its own."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None), "mount")


def syncfs(path):
    """Returns when all that was written to the filesystem of `path` is durable: syncfs(2)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _check(_libc.syncfs(descriptor), "syncfs")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def fresh(work, size_bytes, inodes):
    """Mounts a new ext4 filesystem under the folder `work` and yields its root. The image is sparse."""
    available = os.statvfs(work)
    if available.f_bavail * available.f_frsize < size_bytes:
        raise OSError(f"an image of {size_bytes >> 20} MiB does not fit into {work}: free space or lower --scale")
    image = pathlib.Path(tempfile.mkdtemp(prefix="image-", dir=work)) / "ext4"
    # Short, because the path of a control socket below it must fit into 107 bytes.
    root = pathlib.Path(tempfile.mkdtemp(prefix="m", dir=work))
    try:
        with open(image, "wb") as file:
            file.truncate(size_bytes)
        _command("mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(inodes), image)
        # noinit_itable: else a kernel thread writes inode tables while the benchmark measures.
        _command("mount", "-o", "loop,noinit_itable", image, root)
        image.unlink()
        yield root
    finally:
        _unmount(root)
        image.unlink(missing_ok=True)
        image.parent.rmdir()
        root.rmdir()


def _unmount(root):
    deadline = time.monotonic() + _UNMOUNT_SECONDS
    while os.path.ismount(root):
        if subprocess.run(["umount", root], capture_output=True).returncode == 0:
            return
        # Busy: a process that was told to end still holds a file. Past the deadline the mount goes without it.
        if time.monotonic() > deadline:
            print(f"{root} stayed busy: unmounted lazily", file=sys.stderr)
            _command("umount", "-l", root)
            return
        time.sleep(0.1)


def _command(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{argv[0]} failed with {done.returncode}: {done.stderr.strip()}")

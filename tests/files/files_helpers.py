"""What several test modules of the files share. Nothing here is a fixture."""

import os


def age(path, seconds=3600):
    """Let the file have been written some time ago."""
    status = os.stat(path)
    os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


def opened_in(folder):
    """What this process has open in *folder*: the paths, also of files that were deleted. On Linux."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # that of listdir itself
        if f"{path}/".startswith(f"{folder}/"):
            found.append(path)
    return found

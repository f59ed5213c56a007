"""What several test modules of the files share. Nothing here is a fixture."""

import os


def age(path, seconds=3600):
    """Let the file have been written some time ago."""
    status = os.stat(path)
    os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))

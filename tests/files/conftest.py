"""A folder to serve, with a world around it that must not be reached."""

import os
import sys
from pathlib import Path

import pytest
from files_helpers import age

sys.path.append(str(Path(__file__).parents[1] / "workers"))  # their stand

SECRET = b"secret: outside of the folder"


@pytest.fixture
def world(tmp_path):
    """A folder `www` beside files that must not be reached. All files are an hour old: their tags are strong."""
    www = tmp_path / "www"
    (www / "sub" / "deep").mkdir(parents=True)
    (www / "index.html").write_bytes(b"<h1>home</h1>")
    (www / "hello.txt").write_bytes(b"hello\n")
    (www / "sub" / "page.html").write_bytes(b"<p>page</p>")
    (www / "sub" / "deep" / "data.bin").write_bytes(bytes(range(256)) * 4)
    (www / ".hidden").write_bytes(b"hidden")
    (www / ".git").mkdir()
    (www / ".git" / "config").write_bytes(b"hidden")
    (www / ".well-known").mkdir()
    (www / ".well-known" / "security.txt").write_bytes(b"Contact: x")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "www-other").mkdir()
    (tmp_path / "www-other" / "secret.txt").write_bytes(SECRET)
    for folder, _, names in os.walk(tmp_path):
        for name in names:
            age(os.path.join(folder, name))
    return www

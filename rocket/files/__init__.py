"""A folder and its files: which one a request names, and what is to be said of it. Sends nothing.

Reading order: `paths` (from a target to an open file, and never out of the folder), `conditions`, `ranges` and `media`
(what a request's fields ask for), `listing`, `folder`. `rocket.workers.files` answers. docs/files.md is for users.
"""

from rocket.files.folder import File, Folder, Found, Page, Redirect, Resource

__all__ = ["File", "Folder", "Found", "Page", "Redirect", "Resource"]

"""web2py with all of Rocket's options: ``WEB2PY=/srv/web2py rocket serve --app-dir examples web2py_app``.

web2py's own ``python web2py.py`` runs with Rocket, too, where this package stands in for rocket3: docs/integrations.md.
"""

import os
import sys

folder = os.environ.get("WEB2PY", "")
if not os.path.isfile(os.path.join(folder, "gluon", "main.py")):
    sys.exit(f"WEB2PY must be the folder of web2py, with gluon/main.py in it, not {folder!r}")
os.chdir(folder)  # web2py looks for its applications here
sys.path.insert(0, folder)

from gluon.main import wsgibase as application  # noqa: E402 (not before the folder is known)

__all__ = ["application"]

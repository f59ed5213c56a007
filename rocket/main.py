"""Where Rocket 1.x kept its classes: ``from rocket.main import Rocket``."""

from rocket.classic import DEFAULTS, SERVER_SOFTWARE, CherryPyWSGIServer, NullHandler, Rocket

__all__ = ["DEFAULTS", "SERVER_SOFTWARE", "CherryPyWSGIServer", "NullHandler", "Rocket"]

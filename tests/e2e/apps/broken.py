"""A module that does not import."""


def prepare():
    return 1 / 0


application = prepare()

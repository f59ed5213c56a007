"""`python -m rocket` does what the command `rocket` does."""

from rocket.cli import main

if __name__ == "__main__":
    main(prog_name="rocket")

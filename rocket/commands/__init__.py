"""Commands of the command line that have a file of their own. `rocket.cli` adds them."""

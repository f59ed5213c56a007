"""Measure servers: the load (`load`), what it costs them (`measure`), and how it compares (`monitors`, `peers`).

For `rocket bench` and whoever wants to measure; the server itself uses nothing of it. Needs no more than the core
does, but pictures need matplotlib, and colours in the terminal rich: ``pip install 'rocket[bench]'``.
"""

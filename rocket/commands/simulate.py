"""`rocket simulate`: the policies beside each other, on workloads in a simulation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import click

from rocket.commands.flags import read_threads


@click.command()
@click.option(
    "-p",
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="A policy as for --scaling; may be repeated.  [default: all]",
)
@click.option(
    "-w",
    "--workload",
    "workloads",
    multiple=True,
    metavar="NAME",
    help="A workload, or a dotted path to one, package.module:name; may be repeated.  [default: all]",
)
@click.option("-t", "--threads", callback=read_threads, metavar="N|MIN:MAX", default="2:128", show_default=True)
@click.option("--cpus", type=click.FloatRange(0.1), help="CPUs of the host.  [default: the workload's]")
@click.option("--gil/--no-gil", default=True, help="Whether one thread computes at a time.  [default: yes]")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it; needs matplotlib (rocket[bench])."
)
def simulate(
    policies: tuple[str, ...],
    workloads: tuple[str, ...],
    *,
    threads: tuple[int, int],
    cpus: Optional[float],
    gil: bool,
    plot: Optional[Path],
) -> None:
    """Compare policies with the best fixed number of threads, on workloads in a simulation.

    The same figures come each time; docs/policies.md says what the model knows, and how to describe a workload.
    """
    from rocket.pools import POLICIES, load, simulator
    from rocket.pools.workloads import WORKLOADS, load_workload, with_host

    sys.path.insert(0, str(Path().resolve()))
    for number, workload_name in enumerate(workloads or WORKLOADS):
        workload = with_host(load_workload(workload_name), gil=gil, cpus=cpus)
        best = simulator.best_fixed(workload)
        results = []
        for name in policies or [name for name in POLICIES if name != "fixed"]:
            policy = load(name)
            try:
                results.append(
                    simulator.simulate(policy, workload, min_threads=threads[0], max_threads=threads[1], name=name)
                )
            except Exception as exc:  # the policy is anybody's
                raise click.ClickException(f"the policy {name} failed: {type(exc).__name__}: {exc}") from exc
        click.echo(("\n" if number else "") + f"{workload.name}: {workload.about}")
        click.echo(simulator.table(best, results))
        if plot is not None:
            from rocket.pools.drawing import draw

            many = len(workloads or WORKLOADS) > 1
            path = plot.with_name(f"{plot.stem}-{workload.name}{plot.suffix}") if many else plot
            try:
                draw([best, *results], path)
            except (ImportError, OSError) as exc:
                raise click.ClickException(f"cannot draw: {exc}") from exc
            click.echo(f"drawn to {path}")

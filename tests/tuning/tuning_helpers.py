"""An application that is a formula, and a clock that only its measurements move."""

from dataclasses import dataclass

from rocket.tuning.samples import Sample, Setting, Surroundings
from rocket.tuning.session import Outcome, Session

MIB = 1 << 20
NOW = Setting(2, 64)
OVERHEAD = 0.6  # s that a measurement takes besides
NOISE = (1.0, 0.99, 1.01, 0.995, 1.005)  # times the throughput, in turn: what a quiet machine does


@dataclass
class Model:
    """Computes *cpu* seconds and waits *wait*, which only *pool* requests can do at a time. Its clock is `now`."""

    cpu: float = 0.0001
    wait: float = 0.0
    pool: float = float("inf")
    cpus: float = 4.0
    gil: bool = True
    generator: float = 1e-5  # s of the generator's CPU for a request
    memory: float = 0.0  # share that a thread takes
    others: float = 0.0  # cores that neighbours use
    noise: tuple = NOISE
    bears: float = float("inf")  # clients; with more all requests fail

    def __post_init__(self):
        self.now = 100.0
        self.asked = []  # (setting, connections, seconds, rate, afresh)

    def capacity(self, threads, connections):
        cores = min(1.0 if self.gil else self.cpus, self.cpus - self.others)
        limits = [min(threads, connections) / (self.cpu + self.wait), cores / self.cpu, 1 / self.generator]
        return min([*limits, self.pool / self.wait] if self.wait else limits)

    def measure(self, setting, connections, seconds, rate=None, *, afresh=True):
        self.asked.append((setting, connections, seconds, rate, afresh))
        self.now += seconds + OVERHEAD
        threads = min(setting.max_threads, connections)
        most = self.capacity(setting.max_threads, connections) * self.noise[len(self.asked) % len(self.noise)]
        answered = most if rate is None else min(most, rate)
        latency = connections / most if rate is None else self.cpu + self.wait
        used = answered * self.cpu
        generator = min(1.0, answered * self.generator)
        return Sample(
            setting=setting,
            connections=connections,
            seconds=seconds,
            requests=round(answered * seconds),
            p50=latency,
            p99=1.2 * latency,
            worker_cpu=used,
            process_cpu=used,
            busy=float(threads),
            turn=threads / most,
            threads=threads,
            idle_cpu=max(0.0, self.cpus - used - generator - self.others),
            generator_cpu=generator,
            rss=50 * MIB + threads * MIB,
            mem_free=0.9 - self.memory * threads,
            rate_asked=rate,
            errors={"timeout": 10**6} if connections > self.bears else {},
        )

    @property
    def where(self):
        return Surroundings(self.cpus, self.gil, memory=1024 * MIB)

    def sweep(self, *levels):
        return [self.measure(Setting(2, 128), n, 1.0) for n in levels or (1, 2, 4, 8, 16, 32, 64, 128)]


def session(model, *, now=NOW, clients=128, budget=60.0, idle=0, measure=None, tell=lambda _: None):
    """What a whole session finds out about the model, and the session."""
    outcome = Outcome(now, model.where, clients, idle=idle)
    return Session(measure or model.measure, outcome, budget=budget, clock=lambda: model.now, tell=tell)


WAITS = {"cpu": 0.0001, "wait": 0.05}
COMPUTES = {"cpu": 0.005}
POOLED = {"cpu": 0.0001, "wait": 0.02, "pool": 4}
MIXES = {"cpu": 0.002, "wait": 0.02}

"""A scaling policy of one's own: ``rocket serve --app-dir examples --scaling own_policy:Headroom --threads 2:32``."""

from rocket.pools import Readings, ScalingPolicy


class Headroom(ScalingPolicy):
    """As many workers as were busy at most, as many again as wait, and two."""

    def target(self, readings: Readings) -> int:
        return readings.busy_max + readings.queued + 2

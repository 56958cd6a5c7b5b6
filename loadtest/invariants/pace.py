"""Invariant 6: in no stretch of time are more admitted than rate and capacity allow, and nobody while nobody may be."""

from bisect import insort
from itertools import pairwise
from math import inf

from loadtest.case import Case, Step, most_at
from loadtest.report import Report

CLOCK_DRIFT = 1.001  # of Redis's clock, which is slewed, against the monotonic one


def never_faster(case: Case, report: Report) -> str:
    """6: rule P1 for every stretch that the evidence brackets, L3 for every sample, and the sale's own states."""
    _nobody_while_shut(case, report)
    rates, capacities = case.pace_steps("rate_per_s"), case.pace_steps("capacity")
    if not case.known:
        return _without_a_history(case, report)
    said = []
    if any(step.most < inf for step in rates):
        said.append(_within_rate(case, report, _Bucket(case, rates)))
    if any(step.most < inf for step in capacities):
        said.append(_within_capacity(case, report, capacities))
    return "; ".join(said) or "no limit was set"


class _Bucket:
    """What rule P1 gives at the most: in a stretch of s seconds at one rate, b + s (R - b) / W."""

    def __init__(self, case: Case, rates: list[Step]) -> None:
        self._steps = rates
        self._filled: dict[float, float] = {}
        # P2: each jump of Redis's own clock may fill the bucket once more
        self._fills = 1 + sum(
            "clock" in each.fault.what and each.fault.target.startswith("redis") for each in case.history.faults
        )

    def allows(self, from_s: float, until_s: float) -> float:
        """How many may be admitted between two times; ``inf`` where there may have been no limit in between."""
        most = self._steps[0].most if len(self._steps) == 1 else most_at(self._steps, from_s, until_s)
        if most == inf:
            return inf
        return self._fills * max(1.0, most * 0.1) + (self._until(until_s) - self._until(from_s)) * CLOCK_DRIFT + 1e-6

    def _until(self, at_s: float) -> float:
        """What has been filled in since the beginning of the clock."""
        if at_s not in self._filled:
            edges = [step.from_s for step in self._steps if 0.0 < step.from_s < at_s]
            self._filled[at_s] = sum((end - begin) * self._speed(begin) for begin, end in pairwise([0.0, *edges, at_s]))
        return self._filled[at_s]

    def _speed(self, at_s: float) -> float:
        rate = most_at(self._steps, at_s)
        if rate == inf:
            return 0.0  # no stretch that touches this is asked about
        window = max(10.0, 10.0 / rate)
        return rate - max(1.0, rate * 0.1) / window


def _within_rate(case: Case, report: Report, bucket: _Bucket) -> str:
    fullest, since_s, words = -1.0, 0.0, "nobody was admitted"
    admissions = sorted(
        (*span, life.ticket_id) for life in case.lives.values() if (span := case.admission(life)) is not None
    )
    ends: list[tuple[float, str]] = []
    worst: list[str] = []
    for begin_s, end_s, name in reversed(admissions):
        insort(ends, (end_s, name))
        for count, (until_s, _) in enumerate(ends, 1):
            allowed = bucket.allows(begin_s, until_s)
            if count > fullest * allowed:
                fullest = count / allowed
                since_s, words = begin_s, f"{count} admitted within {until_s - begin_s:.2f} s, {allowed:.1f} allowed"
                worst = [each for _, each in ends[:count]] if fullest > 1 else []
    if fullest > 1:
        report.fault(f"{words}, from {since_s:.3f} on", *worst)
    sampled = _sampled_rate(case, report, bucket)
    if not admissions and not sampled:
        report.doubt("nobody saw anybody being admitted")
    return f"fullest stretch {words}{sampled}"


def _sampled_rate(case: Case, report: Report, bucket: _Bucket) -> str:
    """The counter of admissions between any two samples; it only grows, unless Redis forgot."""
    samples = [
        (sample.asked_s, sample.at_s, sum(counts["admitted_total"] for counts in sample.counts.values()))
        for sample in case.history.samples
        if all("admitted_total" in counts for counts in sample.counts.values())
    ]
    if not case.lossless or not samples:
        return ""
    first = {total: at_s for _, at_s, total in reversed(samples)}  # the earliest that has seen so many
    last = {total: asked_s for asked_s, _, total in samples}  # the last that has not seen more
    for total, until_s in first.items():
        for had, begin_s in last.items():
            if had < total and total - had > bucket.allows(begin_s, until_s):
                report.fault(
                    f"{total - had} were admitted between the samples at {begin_s:.3f} and {until_s:.3f}, "
                    f"{bucket.allows(begin_s, until_s):.1f} are allowed"
                )
                return ""
    return f"; and between any two of {len(samples)} samples"


def _within_capacity(case: Case, report: Report, steps: list[Step]) -> str:
    last, most, since_s = 0, 0, 0.0
    for sample in case.history.samples:
        allowed = most_at(steps, since_s, sample.at_s)
        if sample.in_flight > max(allowed, last):  # a lower capacity takes no lease away
            report.fault(f"{sample.in_flight} were admitted at a time at {sample.at_s:.3f}, capacity was {allowed:.0f}")
            break
        last, since_s, most = sample.in_flight, sample.asked_s, max(most, sample.in_flight)
    leases, allowed = len(case.redis.leases), most_at(steps, 0.0, inf)
    if leases > allowed:
        report.fault(f"{leases} leases are left, capacity was never above {allowed:.0f}", *case.redis.leases)
    if not case.history.samples:
        report.doubt("nobody looked how many were admitted at a time")
        return "capacity"
    return f"at most {most} admitted at a time in {len(case.history.samples)} samples"


def _nobody_while_shut(case: Case, report: Report) -> None:
    """Nobody is admitted before the sale opened, while it surely was paused, or after it surely had ended."""
    shut: list[tuple[float, float, str]] = []
    opened = [act.sent.at_s for act in case.acts("open")]
    by_itself = case.created.get("opens_at") or any("opens_at" in (act.sent.body or {}) for act in case.acts("change"))
    if not by_itself and opened:
        shut.append((0.0, min(opened, default=inf), "before it opened"))
    for act in case.acts("pause", "end"):
        if act.received_s is None or act.answer is None or act.answer.status >= 300:
            continue
        resumed = (
            min(
                (other.sent.at_s for other in case.acts("resume") if (other.received_s or inf) > act.sent.at_s),
                default=inf,
            )
            if act.sent.what == "pause"
            else inf
        )
        shut.append((act.received_s, resumed, f"after {act.sent.what}"))
    for life in case.lives.values():
        span = case.admission(life)
        for from_s, until_s, when in shut:
            if span is not None and from_s < span[0] and span[1] < until_s:
                report.fault(
                    f"ticket {life.ticket_id} was admitted {when}, at {span[1]:.3f} at the latest", life.ticket_id
                )


def _without_a_history(case: Case, report: Report) -> str:
    allowed = case.redis.capacity
    leases = len(case.redis.leases)
    changed = any(fact.capacity != allowed for fact in case.kafka.sales)
    if allowed is not None and leases > allowed and not changed:
        report.fault(f"{leases} are admitted at a time, capacity is {allowed}", *case.redis.leases)
    report.doubt("without a history nobody knows when who was admitted")
    return f"{leases} are admitted now"

"""Every metric, in one place: kind, unit, meaning. A name that is not here does not type-check.

Never labelled by ticket, buyer or order; by sale only where the operator needs it, and sales are few.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """The metrics of one process, in a registry of its own; unused ones stay at zero."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        in_here = self.registry

        # every process
        self.missing = Gauge(
            "fairline_missing",
            "1 while a process lacks something that it needs: what /readyz names",
            ("what",),
            registry=in_here,
        )

        # gateway
        self.requests = Counter(
            "fairline_requests", "HTTP requests answered", ("route", "method", "status"), registry=in_here
        )
        self.request_s = Histogram(
            "fairline_request_seconds",
            "Time to answer an HTTP request",
            ("route",),
            buckets=_FAST_S,
            registry=in_here,
        )
        self.under_way = Gauge("fairline_requests_under_way", "Requests being answered now", registry=in_here)
        self.shed = Counter(
            "fairline_shed", "Requests refused because too many were under way already", registry=in_here
        )
        self.joins = Counter(
            "fairline_joins", "Joins by their word (JOINED, SOLD_OUT, ...)", ("word",), registry=in_here
        )
        self.join_batch = Histogram("fairline_join_batch", "Joins in one script call", buckets=_SIZES, registry=in_here)
        self.joins_waiting = Gauge("fairline_joins_waiting", "Joins that wait for Redis now", registry=in_here)

        # gateway, notifier
        self.token_keys = Gauge(
            "fairline_token_key",
            "One for each token key that is accepted: 1 if it signs, 0 if it is only checked",
            ("kid",),
            registry=in_here,
        )
        self.tokens_checked = Counter(
            "fairline_tokens_checked", "Genuine tokens, by the key that signed them", ("kid",), registry=in_here
        )

        # admission
        self.waiting = Gauge("fairline_waiting", "Tickets in line", ("sale",), registry=in_here)
        self.servable = Gauge(
            "fairline_servable",
            "Tickets in line of an open sale for which units are free: those that could go on",
            ("sale",),
            registry=in_here,
        )
        self.admitted = Counter("fairline_admitted", "Tickets admitted by this controller", ("sale",), registry=in_here)
        self.admission_share = Gauge(
            "fairline_admission_share",
            "Share of its pace that a sale may use: below 1 while orders wait for their verdicts",
            ("sale",),
            registry=in_here,
        )
        self.unsettled = Gauge(
            "fairline_orders_unsettled", "Orders that wait for their verdict", ("sale",), registry=in_here
        )
        self.unsettled_s = Gauge(
            "fairline_orders_unsettled_seconds",
            "Age of the oldest order that waits for its verdict, but for a few stragglers",
            ("sale",),
            registry=in_here,
        )
        self.validated = Counter(
            "fairline_validated", "Answers of validators: yes, no, none", ("sale", "answer"), registry=in_here
        )
        self.breaker_open = Gauge(
            "fairline_breaker_open",
            "1 while the shop's endpoint is left alone after failures",
            ("sale",),
            registry=in_here,
        )
        self.reserved = Counter("fairline_reserved", "Tickets reserved by this controller", ("sale",), registry=in_here)
        self.reaped = Counter(
            "fairline_reaped",
            "Leases that ended: returned to the line, or lapsed",
            ("sale", "how"),
            registry=in_here,
        )
        self.relayed = Counter("fairline_relayed", "Facts acknowledged by Kafka", ("sale",), registry=in_here)
        self.outbox = Gauge("fairline_outbox", "Facts not yet on Kafka", ("sale",), registry=in_here)
        self.redriven = Counter(
            "fairline_redriven",
            "Orders sent again because nothing was heard of them",
            ("sale",),
            registry=in_here,
        )
        self.settled = Counter("fairline_settled", "Tickets settled by a verdict", ("sale",), registry=in_here)
        self.archived = Counter(
            "fairline_archived",
            "Tickets of closed sales that moved to Postgres",
            registry=in_here,
        )
        self.halted = Gauge(
            "fairline_sale_recovering",
            "1 while a sale is halted because Redis lost data",
            ("sale",),
            registry=in_here,
        )

        self.differences = Gauge(
            "fairline_differences",
            "What Redis and Postgres do not agree on, by kind, when they were last compared",
            ("sale", "kind"),
            registry=in_here,
        )
        self.compared_at = Gauge(
            "fairline_compared_timestamp_seconds",
            "When a sale was last compared with Postgres",
            ("sale",),
            registry=in_here,
        )

        self.recovered = Counter(
            "fairline_recovered", "Times that a sale was rebuilt by this controller", ("sale",), registry=in_here
        )
        self.recovery_s = Histogram(
            "fairline_recovery_seconds",
            "Time to rebuild a sale",
            buckets=(0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0),
            registry=in_here,
        )

        # order_service
        self.written = Counter("fairline_orders_written", "Verdicts committed", ("verdict",), registry=in_here)
        self.write_s = Histogram(
            "fairline_write_seconds",
            "One batch: transaction, results, offsets",
            buckets=_FAST_S,
            registry=in_here,
        )
        self.write_batch = Histogram(
            "fairline_write_batch", "Orders in one transaction", buckets=_SIZES, registry=in_here
        )
        self.dead_letters = Counter("fairline_dead_letters", "Records given up", ("topic",), registry=in_here)
        self.waiting_for_postgres = Gauge(
            "fairline_waiting_for_postgres",
            "1 while the writer keeps records because Postgres is away",
            registry=in_here,
        )
        self.deferred = Gauge(
            "fairline_records_deferred",
            "Records that are tried again later, while others go on",
            ("handler",),
            registry=in_here,
        )
        self.giving_up_stopped = Gauge(
            "fairline_giving_up_stopped",
            "1 while records that cannot be written are kept, because too many of them were given up",
            ("handler",),
            registry=in_here,
        )
        self.lag = Gauge("fairline_consumer_lag", "Records behind the end of a topic", ("topic",), registry=in_here)

        # notifier
        self.connections = Gauge("fairline_connections", "WebSockets open now", registry=in_here)
        self.connections_limit = Gauge(
            "fairline_connections_limit", "WebSockets that this copy takes; then 503", registry=in_here
        )
        self.frames = Counter("fairline_frames", "Frames sent, by type", ("type",), registry=in_here)
        self.frames_skipped = Counter(
            "fairline_frames_skipped",
            "Progress frames not sent to a client that reads slowly",
            registry=in_here,
        )
        self.tick_s = Histogram(
            "fairline_tick_seconds",
            "Time of the process that one shared frame took to go out",
            buckets=_FAST_S,
            registry=in_here,
        )
        self.read_batch = Histogram(
            "fairline_read_batch", "Tickets read in one script call", buckets=_SIZES, registry=in_here
        )
        self.closed = Counter("fairline_closed", "WebSockets closed by us, by code", ("code",), registry=in_here)

    def forget_sale(self, sale_id: str) -> None:
        """Drop what admission counted of a sale that is registered no more. A second call finds nothing."""
        for metric in (
            self.waiting,
            self.servable,
            self.admitted,
            self.admission_share,
            self.unsettled,
            self.unsettled_s,
            self.validated,
            self.breaker_open,
            self.reserved,
            self.reaped,
            self.relayed,
            self.outbox,
            self.redriven,
            self.settled,
            self.halted,
            self.recovered,
            self.differences,
            self.compared_at,
        ):
            metric.remove_by_labels({"sale": sale_id})

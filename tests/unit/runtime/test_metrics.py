"""The catalogue forgets a sale whole: a gauge that stays would keep an alert firing for ever."""

from fairline.runtime.metrics import Metrics


def test_a_sale_that_is_forgotten_leaves_no_series() -> None:
    metrics = Metrics()
    of_a_sale = [metric for metric in vars(metrics).values() if "sale" in getattr(metric, "_labelnames", ())]
    assert len(of_a_sale) > 10
    for metric in of_a_sale:
        metric.labels(*("spring" if label == "sale" else "x" for label in metric._labelnames))
    metrics.forget_sale("spring")
    left = {
        sample.name for family in metrics.registry.collect() for sample in family.samples if "sale" in sample.labels
    }
    assert left == set()

"""The token keys of a process, and which of them are in use: what an operator looks at while keys are rotated."""

from fairline.runtime.metrics import Metrics
from fairline.runtime.settings import TokenSettings
from fairline.tokens import TokenKeys


def token_keys(settings: TokenSettings, metrics: Metrics) -> TokenKeys:
    """The keys of the settings; each is shown as accepted or signing, and each genuine token is counted by its key."""
    keys = TokenKeys.parse(
        settings.token_keys.get_secret_value(), seen=lambda kid: metrics.tokens_checked.labels(kid).inc()
    )
    for kid in keys.secrets:
        metrics.token_keys.labels(kid).set(kid == keys.signing)
        metrics.tokens_checked.labels(kid)  # at zero, so that "nobody uses it" can be read
    return keys

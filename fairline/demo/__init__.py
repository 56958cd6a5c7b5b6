"""The sale that proves itself: a thousand buyers from outside, and a verdict on each of the design's invariants.

This package looks at Fairline from outside, as ``loadtest/`` does: it joins over HTTP, hears over WebSocket, and then
reads Redis and Postgres itself, so it may use their drivers. It believes no statistics of a service, and no service
imports it.
"""

"""The sale that proves itself: a thousand buyers from outside, and what comes of each of the design's invariants.

This package looks at Fairline from outside, as ``loadtest/`` does: it joins over HTTP, hears over WebSocket, and looks
into Redis and Postgres itself, so it may use their drivers. The recorder of ``loadtest/`` writes down what the buyers
send and hear, and its checker judges that. No statistics of a service are believed, and no service imports this.
"""

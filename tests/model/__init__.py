"""The protocol as an explicit-state model: every order of steps, with crashes and losses between any two of them.

    python -m tests.model                    every scenario, then every variant; exit code 1 if one does not behave
    python -m tests.model --list             the variants: each a rule left out
    python -m tests.model --variant V1       one of them, with its shortest counterexample
    python -m tests.model --scenario loss    one scenario
    python -m tests.model --deep             larger scenarios; minutes

``world`` is what a system holds at one instant, ``scripts``, ``postgres`` and ``system`` say which step can follow,
``invariants`` what must hold, ``explore`` goes through all of it, ``pace`` does the same for the pace alone.

There is another model, ``tests/integration/scripts/model.py``, and it is not of the same thing. That one is a single
sale in a single Redis, in full detail (each word a script answers, place numbers, batches, quantities that shrink), and
is the reference for the scripts. This one leaves those details out, takes one ticket a call, and has what stands around
Redis: many processes, Kafka, Postgres, crashes, recovery. ``test_replay`` holds it to the real scripts, the real writer
and the real recovery, step by step: where the two models disagreed, one of them would disagree with Redis, and a test
would fail.
"""

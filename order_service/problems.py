"""What the internal port refuses, as problem+json."""


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """A refusal: its status, its stable code, what is wrong, and whatever else the caller needs (``more``)."""

    def __init__(self, status: int, code: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.more = more

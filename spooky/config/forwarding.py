"""What backends are told of the request as it came in: its authority, and the client."""

from typing import Annotated, Literal

from spooky.config.fields import Section, described


class HostPolicy(Section, frozen=True):
    """The authority that backends see."""

    mode: Annotated[
        Literal["pass_through", "rewrite", "upstream"],
        described(
            "`pass_through` sends the client's, `rewrite` sends `host`, `upstream` sends the "
            "backend's own."
        ),
    ] = "pass_through"
    host: Annotated[
        str | None, described("Authority sent with `rewrite`: host, or host and port.")
    ] = None


class ForwardedHeaders(Section, frozen=True):
    """`Forwarded` and `X-Forwarded-For`, `-Proto` and `-Host`."""

    mode: Annotated[
        Literal["overwrite", "append", "preserve"],
        described(
            "`overwrite` drops what the client sent and states what Spooky saw, `append` adds to "
            "it, `preserve` leaves it as it is.",
            hazard="With `append` and `preserve` backends read what clients wrote; use them only "
            "behind a proxy you trust.",
        ),
    ] = "overwrite"

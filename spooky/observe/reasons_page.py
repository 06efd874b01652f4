"""The page about reasons, made from the table: ``python -m spooky.observe.reasons_page``."""

from spooky._core.reasons import TABLE, Reason, Retry, Stage

HEAD = """# Reasons

Whatever Spooky refuses, cuts or resets has a reason. It is in the access log (`stage`, `reason`)
and labels the counters. This page is made from the table in `spooky/_core/reasons.py` by
`make docs`.

**Status** is answered when no response head has been sent; `-` means that the stream or the
connection just ends. **Reset** is the HTTP/3 error code (RFC 9114 section 8.1) where it is too late
for an answer. **Retry**: the condition on which another backend is tried, if it may be; see
[resilience](resilience.md#retries). **Fault**: whose it was.
"""

STAGE_TEXTS = {
    Stage.CONNECTION: "before or beside any request",
    Stage.VALIDATE: "the request breaks the rules of HTTP",
    Stage.POLICY: "the configuration does not let it through",
    Stage.ROUTE: "choosing the upstream",
    Stage.ADMIT: "finding room for it",
    Stage.BALANCE: "choosing the backend",
    Stage.CONNECT: "connecting to the backend",
    Stage.REQUEST: "sending the request",
    Stage.RESPONSE: "returning the response",
    Stage.HEALTH: "why a backend is ejected, that is out of the choice for a time",
    Stage.END: "nothing went wrong",
}


def page() -> str:
    """Return the page, Markdown."""
    parts = [HEAD]
    for stage in Stage:
        parts.append(f"\n## `{stage.value}`: {STAGE_TEXTS[stage]}\n")
        parts.append("| Reason | Meaning | Status | Reset | Retry | Fault |")
        parts.append("| --- | --- | --- | --- | --- | --- |")
        parts.extend(
            f"| `{reason.code}` | {reason.text} | {reason.status or '-'} | "
            f"{reason.h3_error:#x} | {_retry(reason)} | {reason.fault.value} |"
            for reason in TABLE
            if reason.stage is stage
        )
    return "\n".join(parts) + "\n"


def _retry(reason: Reason) -> str:
    return "-" if reason.retryable is Retry.NEVER else f"`{reason.retryable.value}`"


if __name__ == "__main__":
    print(page(), end="")

"""What a configuration means for HTTP/3 connections to backends."""

from spooky.config.performance import Performance
from spooky.upstream.quic import Http3Settings


def http3_settings(performance: Performance) -> Http3Settings:
    """Return how HTTP/3 connections to backends behave."""
    engine = performance.quic_engine
    return Http3Settings(
        engine=None if engine == "auto" else engine,
        congestion_control=performance.quic_congestion_control,
    )

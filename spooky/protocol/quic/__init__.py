"""QUIC sessions (RFC 9000), with aioquic behind them."""

"""What a configuration means for the connections of a listener."""

from spooky.config.schema import Configuration
from spooky.edge.quic import QuicSettings
from spooky.edge.tcp import TcpSettings
from spooky.generation.certificates import ListenerTls
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.h2.limits import Limits as Http2Limits
from spooky.protocol.h3.limits import Limits as Http3Limits
from spooky.protocol.quic.aioquic_session import ServerParameters, WindowAccount

HEAD_SLACK_BYTES = 4096
"""What HTTP/1.1 heads may have on the wire above the limit on names and values: separators, and
room for the validator to be the one that refuses."""

ALT_SVC_MAX_AGE_SECONDS = 86_400
"""How long clients remember that HTTP/3 is offered."""

"""Whether a path carries ECN marks (RFC 9000 section 13.4.2 and appendix A.4)."""

class EcnPath:
    """What is known of ECN on one path."""

    @property
    def state(self) -> str:
        """``testing``, ``unknown``, ``capable`` or ``failed``."""

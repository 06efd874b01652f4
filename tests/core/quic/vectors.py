"""The sample packets of RFC 9001 appendix A and RFC 9369 appendix A.

Of the longest packets only the beginning and the tag stand here; a tag vouches for all before it.
"""

from dataclasses import dataclass

CONNECTION_ID = bytes.fromhex("8394c8f03e515708")

CLIENT_HELLO = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868"
    "04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578"
    "616d706c652e636f6dff01000100000a00080006001d00170018001000070005"
    "04616c706e000500050100000000003300260024001d00209370b2c9caa47fba"
    "baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400"
    "0d0010000e0403050306030203080408050806002d00020101001c0002400100"
    "3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000"
    "75300901100f088394c8f03e51570806048000ffff"
)
CLIENT_PAYLOAD = CLIENT_HELLO.ljust(1162, b"\0")
SERVER_PAYLOAD = bytes.fromhex(
    "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf739"
    "88cfc79825df566dc5430b9a045a1200130100002e00330024001d00209d3c94"
    "0d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00"
    "020304"
)
APPLICATION_SECRET = bytes.fromhex(
    "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b"
)


@dataclass(frozen=True)
class Version:
    """What the appendix of one version says.

    Attributes:
        number: The version.
        secrets: For Initial packets, the client's and the server's.
        client_initial: Header, and how the protected packet begins and ends.
        server_initial: The same.
        retry: A Retry packet with its tag.
        short: Header of a ChaCha20 packet, and the protected packet.
        updated: The secret after ``APPLICATION_SECRET``.
    """

    number: int
    secrets: tuple[str, str]
    client_initial: tuple[str, str, str]
    server_initial: tuple[str, str, str]
    retry: str
    short: tuple[str, str]
    updated: str


VERSIONS = [
    Version(
        number=1,
        secrets=(
            "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea",
            "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b",
        ),
        client_initial=(
            "c300000001088394c8f03e5157080000449e00000002",
            "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11",
            "e221af44860018ab0856972e194cd934",
        ),
        server_initial=(
            "c1000000010008f067a5502a4262b50040750001",
            "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a",
            "cbc42158407dd074ee",
        ),
        retry="ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba",
        short=("4200bff4", "4cfe4189655e5cd55c41f69080575d7999c25a5bfb"),
        updated="1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9",
    ),
    Version(
        number=0x6B3343CF,
        secrets=(
            "14ec9d6eb9fd7af83bf5a668bc17a7e283766aade7ecd0891f70f9ff7f4bf47b",
            "0263db1782731bf4588e7e4d93b7463907cb8cd8200b5da55a8bd488eafc37c1",
        ),
        client_initial=(
            "d36b3343cf088394c8f03e5157080000449e00000002",
            "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485",
            "a18b2faa745b6fe189cf772a9f84cbfc",
        ),
        server_initial=(
            "d16b3343cf0008f067a5502a4262b50040750001",
            "dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698",
            "a84bed8521e2e140",
        ),
        retry="cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6",
        short=("4200bff4", "5558b1c60ae7b6b932bc27d786f4bc2bb20f2162ba"),
        updated="c69374c49e3d2a9466fa689e49d476db5d0dfbc87d32ceeaa6343fd0ae4c7d88",
    ),
]
